//! One page a provider, made from its definition: the fields, and what the first comments of its file say.

use std::fmt::Write as _;

use token_keeper::provider::{ClientAuth, Definition, Pkce, Registered, Source, Variable};
use url::Url;

use crate::source::{current, current_part, files, read, root};

const FOLDER: &str = "docs/src/providers";

fn names() -> impl Iterator<Item = &'static str> {
    Definition::names().filter(|name| *name != "custom")
}

/// The sentences that a definition's comments begin with a word of their own: `# Register: …`.
struct Notes {
    facts: String,
    unknown: String,
    register: String,
    redirect: String,
    scopes: Vec<(String, String)>,
}

fn notes(name: &str) -> Notes {
    let text = Definition::builtin_text(name).unwrap();
    let comments = text.lines().skip(1).take_while(|line| line.starts_with('#'));
    let mut paragraphs: Vec<String> = Vec::new();
    for line in comments.map(|line| line.trim_start_matches('#').trim()) {
        let begins =
            ["Facts:", "Not known:", "Register:", "Redirect:", "Scope "].iter().any(|head| line.starts_with(head));
        match paragraphs.last_mut() {
            Some(paragraph) if !begins => {
                paragraph.push(' ');
                paragraph.push_str(line);
            }
            _ => paragraphs.push(line.to_owned()),
        }
    }
    let of = |head: &str| {
        let found = paragraphs.iter().find_map(|paragraph| paragraph.strip_prefix(head));
        found.map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let scopes = paragraphs.iter().filter_map(|paragraph| paragraph.strip_prefix("Scope ")?.split_once(": "));
    Notes {
        facts: of("Facts:"),
        unknown: of("Not known:"),
        register: of("Register:"),
        redirect: of("Redirect:"),
        scopes: scopes.map(|(scope, words)| (scope.to_owned(), words.to_owned())).collect(),
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How the client proves who it is, as the provider's own pages call it.
fn client_auth(auth: ClientAuth) -> &'static str {
    match auth {
        ClientAuth::Basic | ClientAuth::BasicRaw => "client id and client secret, in an `Authorization: Basic` header",
        ClientAuth::BasicSecret => "the secret as the user of an `Authorization: Basic` header",
        ClientAuth::Post => "client id and client secret, in the body",
        ClientAuth::None => "the client id alone",
        ClientAuth::PrivateKeyJwt => "a statement signed with the client's private key",
        ClientAuth::TlsClientAuth => "the client's certificate",
    }
}

/// How the client proves who it is for a definition as a whole.
fn proof(it: &Definition) -> String {
    let mut proof = match it.is_self_signed() {
        true if it.assertion.hmac.is_some() => "its secret signs the API's token itself; nothing is asked for",
        true => "its private key (the secret `oauth2-private-key`) signs the API's token itself; nothing is asked for",
        false => client_auth(it.client_auth),
    }
    .to_owned();
    if it.client_certificate {
        proof.push_str(", and the client's certificate on every connection, to the API, too");
    }
    proof
}

/// Addresses as links, the rest as it is.
fn linked(text: &str) -> String {
    let word = |word: &str| {
        let url = word.trim_end_matches(['.', ',', ';', ':', ')']);
        if url.starts_with("https://") { word.replacen(url, &format!("<{url}>"), 1) } else { word.to_owned() }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn lifetimes(page: &mut String, it: &Definition) {
    page.push_str("\n## Life of the tokens\n\n");
    let life = it.lifetime.or(it.assertion.lifetime.filter(|_| it.is_self_signed()));
    let access = life.map_or("the answer says how long it lives, or it does not end by itself".to_owned(), span);
    writeln!(page, "- Access token: {access}.").unwrap();
    let refresh = match it.rotates {
        _ if it.is_self_signed() => "none; the next access token is signed instead",
        _ if it.grant.asks_again() => "none; a new access token is requested instead",
        Some(true) => "good for one renewal; each renewal brings the next one",
        Some(false) => "stays the same over renewals",
        None => "whether a renewal ends it is not documented; the function treats it as good for one renewal",
    };
    writeln!(page, "- Refresh token: {refresh}.").unwrap();
    if let Some(window) = it.replay_window {
        writeln!(
            page,
            "- After a renewal without an answer the same refresh token works for another {}.",
            span(window)
        )
        .unwrap();
    }
    if it.previous_until_used {
        page.push_str("- The spent refresh token works until the new access token has been used.\n");
    }
    page.push_str("\n## What ends the grant\n\n");
    let mut ends = Vec::new();
    ends.extend(
        it.refresh_idle
            .map(|seconds| format!("{} without a renewal. A scheduled run renews at half of that.", span(seconds))),
    );
    ends.extend(
        it.refresh_lifetime
            .map(|seconds| format!("The refresh token ends {} after the answer that brought it.", span(seconds))),
    );
    ends.extend(it.grant_lifetime.map(|seconds| {
        format!(
            "The consent ends {} after it was given, whatever is renewed: a person authorises again.",
            span(seconds)
        )
    }));
    if it.grant.asks_again() {
        ends.push("The client's credentials are changed, or the client is removed, at the provider.".into());
    } else {
        ends.push("The person withdraws the consent in the provider's settings, or an administrator does.".into());
    }
    if it.revoke_url.is_some() {
        ends.push("`POST /revoke`: the function revokes at the provider, then deletes the tokens.".into());
    } else if it.grant.asks_again() {
        ends.push("`POST /revoke` deletes the token here; the next run requests another one.".into());
    } else {
        ends.push("`POST /revoke` deletes the tokens here. This provider has no documented revocation endpoint: withdraw the consent in its settings, too.".into());
    }
    for end in ends {
        writeln!(page, "- {end}").unwrap();
    }
}

fn registration(page: &mut String, name: &str, it: &Definition, notes: &Notes) {
    page.push_str("\n## Register\n\n");
    writeln!(page, "- Where: {}", linked(&notes.register)).unwrap();
    let redirect: Url = "https://gateway.example.com/function/etl-oauth/oauth2/callback".parse().unwrap();
    let shown = format!(
        "`{}`, with your own gateway and function: the enable page shows it",
        it.callback.to_register(&redirect)
    );
    let what = if it.callback.registered == Registered::Uri { "Redirect URI" } else { "In place of a redirect URI" };
    let redirect = match &*notes.redirect {
        "" => format!("{shown}."),
        other if other.starts_with("none") => linked(other),
        field => format!("{shown}. It goes into {}", linked(field)),
    };
    writeln!(page, "- {what}: {redirect}").unwrap();
    writeln!(page, "- Client authentication: {}.", proof(it)).unwrap();
    let pkce =
        if it.pkce == Pkce::S256 { "sent (S256)" } else { "not sent: the provider does not support it, or refuses it" };
    if !it.grant.asks_again() {
        writeln!(page, "- PKCE challenge: {pkce}.").unwrap();
    }
    page.push_str("\n## Configure\n\n```yaml\n");
    writeln!(page, "provider: {name}").unwrap();
    let set = |variable: &Variable| match variable.from {
        Source::Configuration => true,
        Source::Lookup => variable.about.is_some(),
        _ => false,
    };
    for (variable, rule) in it.variables.iter().filter(|(_, variable)| set(variable)) {
        let about = rule.about.as_deref().unwrap_or("a part of the addresses");
        let value = rule.default.as_deref().unwrap_or("…");
        writeln!(
            page,
            "provider_{variable}: {value}   # {about}{}",
            if rule.default.is_some() { "; this is the default" } else { "" }
        )
        .unwrap();
    }
    page.push_str("```\n");
    let secret = it.variables.iter().filter(|(_, variable)| variable.from == Source::Secret);
    let secret: Vec<_> = secret.map(|(variable, rule)| format!("`{}`", rule.at(variable))).collect();
    if !secret.is_empty() {
        writeln!(page, "\nMount beside the client's secrets: {}.", secret.join(", ")).unwrap();
    }
}

fn page(name: &str) -> String {
    let (it, notes) = (Definition::builtin(name).unwrap(), notes(name));
    let mut page = format!("# {}\n\n", it.title.as_deref().unwrap_or(name));
    writeln!(page, "A test writes this page from the definition; `etl-oauth provider {name}` prints the definition.")
        .unwrap();
    registration(&mut page, name, &it, &notes);
    page.push_str("\n## Scopes\n\n");
    if it.scope.is_empty() {
        page.push_str("The definition asks for none; set `scope` where you need one.\n");
    } else {
        page.push_str(
            "`scope` replaces this list, separated by spaces.\n\n| scope | what it allows |\n| --- | --- |\n",
        );
        for scope in &it.scope {
            let words = notes.scopes.iter().find(|(noted, _)| noted == scope);
            let words = words
                .unwrap_or_else(|| panic!("{name}: a comment `# Scope {scope}: …` says what it allows"))
                .1
                .as_str();
            writeln!(page, "| `{scope}` | {words} |").unwrap();
        }
    }
    lifetimes(&mut page, &it);
    if let Some(remedy) = &it.refresh_token_remedy {
        writeln!(page, "\n## No refresh token came\n\n{}", linked(remedy)).unwrap();
    }
    writeln!(page, "\n## Sources\n\nFacts: {}\n\nNot known: {}", linked(&notes.facts), linked(&notes.unknown)).unwrap();
    page
}

#[test]
fn every_provider_has_a_page_made_from_its_definition() {
    for name in names() {
        assert!(
            !notes(name).register.is_empty(),
            "{name}.toml: a comment `# Register: …` says where a client is registered"
        );
        current(&format!("{FOLDER}/{name}.md"), &page(name));
    }
    let pages = files(FOLDER, "md").into_iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned());
    let mut pages: Vec<_> = pages.filter(|name| name != "README").collect();
    let mut wanted: Vec<_> = names().map(str::to_owned).collect();
    pages.sort();
    wanted.sort();
    assert_eq!(pages, wanted, "{}/{FOLDER} has a page for each definition and no other", root().display());
}

#[test]
fn the_readme_tells_how_many_providers_are_built_in() {
    let count = names().count();
    let told = format!("[{count} are built in](docs/src/providers/README.md)");
    assert!(read("README.md").contains(&told), "README.md says how many definitions there are: {told}");
}

#[test]
fn the_list_of_providers_is_current() {
    let mut list = String::new();
    for name in names() {
        let title = Definition::builtin(name).unwrap().title.unwrap_or_else(|| name.to_owned());
        writeln!(list, "- [{title}]({name}.md): `provider: {name}`").unwrap();
    }
    current_part(&format!("{FOLDER}/README.md"), "providers", &list);
}
