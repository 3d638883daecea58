//! The places of variables: what may stand where, so that no value can lead to another host or carry a secret away.

use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue};

use super::{
    super::{
        Definition, Grant, checked_url, fill,
        variable::{Kind, Source, is_name, placeholders},
    },
    Mistake,
};

/// What a request can fill in by itself, beside the variables.
const KNOWN: [(&str, &[&str]); 8] = [
    ("authorize", &["client_id", "redirect_uri", "scope", "state"]),
    ("callback", &["client_id", "client_secret"]),
    ("token", &["code", "code_verifier", "redirect_uri", "scope"]),
    ("refresh", &["refresh_token", "redirect_uri", "scope"]),
    ("second", &["access_token", "refresh_token", "redirect_uri", "scope"]),
    ("revoke", &["token", "token_type_hint"]),
    ("introspect", &["token", "token_type_hint"]),
    ("api", &["client_id"]),
];
/// What every request of the client's own can fill in.
const CLIENT: [&str; 4] = ["client_id", "client_secret", "client_assertion", "timestamp"];
/// The secrets that a definition may name begin so: one from elsewhere must not be able to ask for a function's other secrets.
const SECRET_PREFIX: &str = "api-";

/// What can be filled in at a key.
fn known(key: &str) -> Vec<&'static str> {
    let place = key.split('.').next().unwrap_or_default();
    let own = KNOWN.iter().find(|(known, _)| *known == place).map_or(&[][..], |(_, known)| known);
    let client: &[_] = match place {
        "token" | "refresh" | "second" | "revoke" | "introspect" => &CLIENT,
        "revoke_url" => &["client_id"],
        _ => &[],
    };
    // `path` is that of the request that is signed.
    let path: &[_] = if key.ends_with(".sign.before") { &["path"] } else { &[] };
    [client, own, path].concat()
}

pub(super) fn variables(definition: &Definition, found: &mut Vec<Mistake>) {
    let used: BTreeSet<&str> = definition.templates().iter().flat_map(|(_, text)| placeholders(text)).collect();
    for (name, variable) in &definition.variables {
        let mut wrong = |key: &str, why: String| found.push((format!("variables.{name}{key}"), why));
        let filled_in = KNOWN.iter().flat_map(|(_, known)| *known).chain(&CLIENT).any(|known| known == name);
        if !is_name(name) || name == "file" || filled_in {
            wrong(
                "",
                "a variable's name has small letters, digits and _, and is none that a request fills in itself".into(),
            );
        } else if !used.contains(name.as_str()) && matches!(variable.from, Source::Configuration | Source::Secret) {
            wrong("", format!("nothing uses it; write {{{name}}} where its value belongs, or take it away"));
        }
        if variable.from == Source::Configuration && variable.at.is_some() {
            wrong(".at", "belongs to from = \"answer\", \"redirect\" or \"secret\" alone".into());
        }
        if variable.from == Source::Secret {
            // Nor by a way around: the name becomes a part of a path.
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            let named = variable.at.as_deref().is_some_and(|at| at.starts_with(SECRET_PREFIX) && at.bytes().all(plain));
            if !named || variable.default.is_some() || !matches!(variable.kind, Kind::Label | Kind::Text) {
                wrong(
                    ".at",
                    "names the secret that is mounted, such as api-password; kind and default do not belong".into(),
                );
            }
        }
        let names_hosts = matches!(variable.kind, Kind::Host | Kind::Origin);
        if names_hosts && variable.from != Source::Configuration && variable.hosts.is_empty() {
            wrong(".hosts", "is needed: the hosts that an answer may name, such as [\"*.example.com\"]".into());
        }
        if !names_hosts && !variable.hosts.is_empty() {
            wrong(".hosts", "belongs to kind = \"host\" or \"origin\" alone".into());
        }
        for host in &variable.hosts {
            // `*.com` would be everybody.
            let name = host.strip_prefix("*.").unwrap_or(host);
            if !name.contains('.') || name.contains(['*', '/', ':', '@']) || *name != name.to_ascii_lowercase() {
                wrong(".hosts", format!("{host:?} is not a host name such as example.com or *.example.com"));
            }
        }
        if let Some(default) = &variable.default
            && let Err(right) = variable.check(default)
        {
            wrong(".default", format!("must be {right}"));
        }
    }
}

/// A variable in a URL must not be able to choose another host than the definition means.
pub(super) fn urls(definition: &Definition, found: &mut Vec<Mistake>) {
    for (key, url) in definition.urls().into_iter().chain([("issuer", definition.issuer.as_deref())]) {
        let Some(url) = url else { continue };
        let mut wrong = |why: String| found.push((key.to_owned(), why));
        if !url.is_ascii() {
            wrong("must be ASCII (a host as xn--…): letters of other alphabets look alike".into());
        }
        if key == "issuer" && url.contains('?') {
            wrong("must not hold a query (RFC 8414 §2)".into());
        }
        if url.starts_with('/') && (key != "userinfo_url" || definition.api_url.is_none()) {
            wrong("is a path: only userinfo_url may be one, below api_url".into());
        }
        for name in placeholders(url) {
            let Some(variable) = definition.variables.get(name) else { continue };
            let place = format!("{{{name}}}");
            let Some((before, after)) = url.split_once(&place) else { continue };
            let host = before.strip_prefix("https://");
            let in_host = host.is_some_and(|host| !host.contains(['/', '?', '#']));
            let in_path = before.matches('/').count() >= 3 || (before.starts_with('{') && before.contains('/'));
            let ends = after.is_empty() || after.starts_with(['/', '?', '#']);
            match variable.kind {
                Kind::Label if in_host && fixed_domain(after) => {}
                Kind::Label => {
                    wrong(format!("{place} must stand before a fixed domain: https://{place}.example.com/…"))
                }
                Kind::Host if host == Some("") && ends => {}
                Kind::Host => wrong(format!("{place} is a host and must stand for the whole of it: https://{place}/…")),
                Kind::Origin if before.is_empty() && ends => {}
                Kind::Origin => wrong(format!("{place} is an origin and must stand at the beginning: {place}/…")),
                Kind::Segment if in_path => {}
                Kind::Segment => wrong(format!("{place} must stand in the path: https://host/…/{place}/…")),
                Kind::Text => {
                    wrong(format!(
                        "{place} is any text and must not stand in a URL; give it kind = \"segment\" or \"label\""
                    ));
                }
            }
            let late = variable.from != Source::Configuration && variable.default.is_none();
            if late && key == "authorize_url" {
                wrong(format!("{place} is not known before a person is back; give the variable a default"));
            }
            let without_redirect = definition.grant != Grant::AuthorizationCode;
            if key == "token_url" && variable.from == Source::Redirect && without_redirect {
                wrong(format!("{place} comes with a redirect, and grant = \"{}\" has none", definition.grant.name()));
            }
            if key == "token_url" && variable.from == Source::Answer && variable.default.is_none() {
                wrong(format!(
                    "{place} is not known before the answer that it is asked for; give the variable a default"
                ));
            }
        }
        if let Some(sample) = sample(definition, url)
            && let Err(why) = checked_url(&sample)
        {
            wrong(why.to_string());
        }
        if url.split(['?', '&', '#']).skip(1).any(|pair| {
            ["access_token", "token", "client_secret", "refresh_token", "api_key"]
                .contains(&pair.split('=').next().unwrap_or_default())
        }) {
            wrong("must not hold a token or a secret; tokens go into headers".into());
        }
        if url.contains('#') != (key == "authorize_url" && definition.authorize.fragment) {
            wrong("only an authorize_url may hold a fragment (#…), with authorize.fragment = true beside it".into());
        }
    }
}

/// The URL with something in the places of its variables; `None` where a place is not described.
fn sample(definition: &Definition, url: &str) -> Option<String> {
    if url.starts_with('/') {
        return None;
    }
    let value = |name: &str| match definition.variables.get(name)?.kind {
        Kind::Label | Kind::Segment | Kind::Text => Some("a"),
        Kind::Host => Some("a.example"),
        Kind::Origin => Some("https://a.example"),
    };
    let url = url.replace("{client_id}", "a");
    fill(url.split('#').next()?, value)
}

/// Whether what comes after a label is the rest of a host name of at least two labels, without a variable in it.
fn fixed_domain(after: &str) -> bool {
    let host = after.split(['/', '?', '#']).next().unwrap_or_default();
    let fixed = host.trim_start_matches(|first: char| first != '.');
    !host.contains(['{', '@', ':']) && fixed.matches('.').count() >= 2 && !fixed.ends_with('.')
}

pub(super) fn templates(definition: &Definition, found: &mut Vec<Mistake>) {
    for (key, text) in definition.templates() {
        let known = known(&key);
        // A secret goes where the client's own goes, and never into an address.
        let secrets_too = known.contains(&"client_secret");
        for name in placeholders(text) {
            let variable = definition.variables.get(name);
            if variable.is_some_and(|variable| variable.from == Source::Secret) && !secrets_too {
                found.push((
                    key.clone(),
                    format!(
                        "{{{name}}} is a secret: it belongs into params, headers or the key of a signature of a request"
                    ),
                ));
            }
            if !known.contains(&name) && variable.is_none() {
                let known = known.join(", ");
                let known = if known.is_empty() { String::new() } else { format!("; here are known: {known}") };
                found.push((
                    key.clone(),
                    format!("{{{name}}} is no variable: describe it in [variables.{name}]{known}"),
                ));
            }
        }
        if let Some((_, header)) = key.split_once(".headers.") {
            let fixed = text.replace(['{', '}'], "");
            if HeaderName::try_from(header).is_err() || HeaderValue::try_from(fixed).is_err() {
                found.push((key.clone(), "is not a header: names are tokens, values visible ASCII".into()));
            }
        }
    }
}
