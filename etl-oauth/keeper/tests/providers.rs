//! The shipped definitions: what each makes of the protocol stands in `tests/providers/NAME.txt`, for a person to review.
//! After a change that is wanted, `UPDATE=1 cargo test -p token-keeper --test providers` writes the files anew.
//!
//! `tests/providers/NAME.json` is the token answer of the provider's documentation, with markers in the places of secrets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::{fmt::Write, fs, path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use token_keeper::{
    grant::{self, Client, HttpResponse, TokenRequest},
    provider::{Definition, Grant, Overrides, Pkce, Provider, Source, TokenKind},
    token::{Secret, TokenResponse},
};
use url::{Url, form_urlencoded};

#[path = "providers/vocabulary/mod.rs"]
mod vocabulary;

const REDIRECT: &str = "https://gateway.example.com/function/etl-oauth/oauth2/callback";

fn names() -> impl Iterator<Item = &'static str> {
    Definition::names().filter(|name| *name != "custom")
}

fn folder(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares a file with what it should be; with `UPDATE` set it is written.
fn is_current(file: &Path, wanted: &str, stale: &mut Vec<String>) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(file, wanted).unwrap();
    } else if fs::read_to_string(file).unwrap_or_default() != wanted {
        stale.push(file.display().to_string());
    }
}

fn provider(name: &str) -> Provider {
    let definition = Definition::builtin(name).unwrap();
    let overrides = Overrides {
        variables: definition.samples(Source::Configuration),
        redirect_uri: Some(REDIRECT.into()),
        ..Overrides::default()
    };
    Provider::new(name, definition, overrides).unwrap_or_else(|wrong| panic!("{name}: {wrong:?}"))
}

fn client() -> Client {
    let secret = |text| Some(Secret::new(text));
    Client {
        id: "CLIENT-ID".into(),
        secret: secret("CLIENT-SECRET"),
        assertion: secret("STATEMENT"),
        ..Client::default()
    }
}

/// The client with the other secrets that a definition's requests hold.
fn client_of(provider: &Provider) -> Client {
    let secret = provider.variables.iter().filter(|(_, variable)| variable.from == Source::Secret);
    let secrets = secret.map(|(name, variable)| (name.clone(), Secret::new(variable.at(name).to_uppercase())));
    Client { secrets: secrets.collect(), ..client() }
}

fn url(out: &mut String, method: &str, url: &Url) {
    let mut bare = url.clone();
    bare.set_query(None);
    writeln!(out, "{method} {bare}").unwrap();
    for pair in url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        writeln!(out, "    ? {pair}").unwrap();
    }
}

fn request(out: &mut String, title: &str, request: &TokenRequest) {
    writeln!(out, "\n## {title}").unwrap();
    url(out, request.method().as_str(), request.url());
    for (name, value) in request.headers() {
        let value = value.to_str().unwrap();
        let plain = value.strip_prefix("Basic ").map(|pair| String::from_utf8(STANDARD.decode(pair).unwrap()).unwrap());
        writeln!(out, "{name}: {}", plain.map_or(value.to_owned(), |pair| format!("Basic of {pair}"))).unwrap();
    }
    let separator = if request.body().starts_with('{') { ',' } else { '&' };
    for line in request.body().split(separator).filter(|line| !line.is_empty()) {
        writeln!(out, "    {line}").unwrap();
    }
}

fn read(name: &str, provider: &Provider) -> TokenResponse {
    let body = fs::read(folder("tests/providers").join(format!("{name}.json"))).unwrap();
    let raw = HttpResponse { status: StatusCode::OK, headers: HeaderMap::new(), body, at: Timestamp::UNIX_EPOCH };
    grant::judge_token(provider, &raw).unwrap_or_else(|failure| panic!("{name}: {failure}"))
}

fn reading(out: &mut String, answer: &TokenResponse) {
    let end = |lifetime: Option<Duration>, end: Option<Timestamp>| match (lifetime, end) {
        (Some(lifetime), _) => format!("{} s", lifetime.as_secs()),
        (None, Some(end)) => format!("until {end}"),
        (None, None) => "not told".into(),
    };
    writeln!(out, "\n## What is read of the documented answer").unwrap();
    writeln!(out, "access token: {}", answer.access_token.expose()).unwrap();
    writeln!(out, "its life: {}", end(answer.lifetime, answer.expires_at)).unwrap();
    writeln!(out, "refresh token: {}", answer.refresh_token.as_ref().map_or("none", Secret::expose)).unwrap();
    writeln!(out, "its life: {}", end(answer.refresh_lifetime, answer.refresh_expires_at)).unwrap();
    writeln!(out, "type: {}", answer.token_type).unwrap();
    writeln!(out, "scope: {}", answer.scope.as_deref().unwrap_or("not told")).unwrap();
    for (name, value) in &answer.kept {
        writeln!(out, "{name}: {value}").unwrap();
    }
}

/// All that a definition makes of the protocol.
fn story(name: &str) -> String {
    let provider = provider(name);
    let client = client_of(&provider);
    let mut out = format!("# {}\n", provider.title);
    let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    if let Some(address) = grant::authorize_url(&provider, &client.id, REDIRECT, "STATE", &verifier) {
        out.push_str("\n## A person is asked\n");
        url(&mut out, "GET", &address);
    }
    let mut kept = provider.samples(Source::Redirect);
    let back = provider.with(&kept);
    if provider.is_self_signed() {
        statement(&mut out, &provider);
        the_api(&mut out, &back);
        return out;
    }
    if provider.grant == Grant::ClientCredentials {
        request(&mut out, "The client asks for itself", &grant::client_credentials(&provider, &client));
    } else {
        let code_verifier = (provider.pkce == Pkce::S256).then_some(&verifier);
        let code = grant::authorization_code(&back, &client, "CODE", REDIRECT, code_verifier);
        request(&mut out, "A code becomes tokens", &code);
    }
    let answer = read(name, &back);
    reading(&mut out, &answer);
    kept.extend(answer.kept.clone());
    let account = provider.with(&kept);
    if account.wants_lookup(&kept)
        && let Some(asked) = grant::lookup(&account, &client, &answer)
    {
        request(&mut out, "More of the account is asked for", &asked);
    }
    kept.extend(provider.samples(Source::Lookup));
    let account = provider.with(&kept);
    if let Some(asked) = grant::introspection(&account, &client, &answer.access_token) {
        request(&mut out, "Its end is asked for", &asked);
    }
    if let Some(second) = grant::second(&account, &client, &answer) {
        request(&mut out, "The second exchange", &second);
    }
    if let Some(token) = answer.refresh_token.as_ref().filter(|_| !provider.grant.asks_again()) {
        request(&mut out, "A renewal", &grant::refresh_token(&account, &client, token));
    }
    for (kind, token) in [(TokenKind::RefreshToken, "REFRESH"), (TokenKind::AccessToken, "ACCESS")] {
        if let Some(revocation) = grant::revocation(&account, &client, &Secret::new(token), kind) {
            request(&mut out, &format!("A revocation of the {}", kind.as_str().replace('_', " ")), &revocation);
        }
    }
    if provider.client_certificate {
        out.push_str("\nThe client's certificate is shown on every connection.\n");
    }
    the_api(&mut out, &account);
    out
}

/// What the client signs where its statement is the token.
fn statement(out: &mut String, provider: &Provider) {
    let terms = &provider.assertion;
    out.push_str("\n## The client signs its token\n");
    let texts = [("kid", &terms.key_id), ("iss", &terms.issuer), ("sub", &terms.subject), ("aud", &terms.audience)];
    for (name, text) in texts {
        if let Some(text) = text {
            writeln!(out, "{name}: {text}").unwrap();
        }
    }
    for (name, value) in &terms.claims {
        writeln!(out, "{name}: {}", serde_json::to_string(value).unwrap()).unwrap();
    }
    writeln!(out, "its life: {} s", terms.lifetime.map_or(0, u64::from)).unwrap();
}

fn the_api(out: &mut String, account: &Provider) {
    out.push_str("\n## The API\n");
    let text = |url: &Option<Url>| url.as_ref().map_or("not known".to_owned(), Url::to_string);
    writeln!(out, "base: {}\nwho: {}", text(&account.api_url), text(&account.userinfo_url)).unwrap();
    writeln!(out, "{}: {}", account.api.header, format!("{} TOKEN", account.api.scheme).trim_start()).unwrap();
    for (name, value) in &account.api.headers {
        writeln!(out, "{name}: {value}").unwrap();
    }
    for (name, value) in &account.api.params {
        writeln!(out, "    ? {name}={value}").unwrap();
    }
}

#[test]
fn every_definition_makes_the_requests_that_were_reviewed() {
    let mut stale = Vec::new();
    for name in names() {
        is_current(&folder("tests/providers").join(format!("{name}.txt")), &story(name), &mut stale);
    }
    assert!(stale.is_empty(), "UPDATE=1 writes these anew; review the difference: {stale:#?}");
}

#[test]
fn f9_a_definition_asks_for_what_brings_a_refresh_token() {
    for name in names() {
        let it = Definition::builtin(name).unwrap();
        let remedy = it.refresh_token_remedy.as_deref().unwrap_or_default().to_lowercase();
        // "Keep offline_access among the scopes": then it is one of them.
        let Some(word) = remedy.split_once("keep ").and_then(|(_, rest)| rest.split(' ').next()) else { continue };
        let asked = match word.split_once('=') {
            Some((name, value)) => it.authorize.params.get(name).is_some_and(|it| it == value),
            None => it.scope.iter().any(|scope| scope == word),
        };
        assert!(asked, "{name} does not ask for {word}");
    }
    for (name, parameter) in [("google", "access_type"), ("dropbox", "token_access_type"), ("zoho", "access_type")] {
        assert_eq!(Definition::builtin(name).unwrap().authorize.params[parameter], "offline");
    }
}

#[test]
fn the_schema_is_current() {
    let mut stale = Vec::new();
    let schema = serde_json::to_string_pretty(&Definition::schema()).unwrap() + "\n";
    is_current(&folder("providers/schema.json"), &schema, &mut stale);
    assert!(stale.is_empty(), "UPDATE=1 writes it anew");
}

#[test]
fn the_table_of_providers_is_current() {
    let mut table = String::from(
        "# Providers\n\nOne file each. Its first lines say where its facts come from, and what is not known. [The format](FORMAT.md) is \
         for yours. A test writes this table.\n\n| `provider` | | variables | access token | refresh token | revoked at the provider |\n| --- | --- | --- | \
         --- | --- | --- |\n",
    );
    for name in names() {
        let it = Definition::builtin(name).unwrap();
        let asked = it.variables.iter().filter(|(_, variable)| variable.from == Source::Configuration);
        let asked: Vec<_> = asked
            .map(|(name, it)| format!("`provider_{name}`{}", it.default.as_ref().map_or("", |_| " (optional)")))
            .collect();
        let mut refresh = Vec::new();
        match it.rotates {
            Some(true) => refresh.push("good once".to_owned()),
            Some(false) => refresh.push("stays".to_owned()),
            None => {}
        }
        refresh.extend(it.refresh_lifetime.map(|seconds| format!("ends after {}", span(seconds))));
        refresh.extend(it.refresh_idle.map(|seconds| format!("lapses when idle for {}", span(seconds))));
        refresh.extend(it.grant_lifetime.map(|seconds| format!("consent ends after {}", span(seconds))));
        writeln!(
            table,
            "| [`{name}`]({name}.toml) | {} | {} | {} | {} | {} |",
            it.title.as_deref().unwrap_or(name),
            asked.join(", "),
            it.lifetime.map(span).unwrap_or_default(),
            refresh.join(", "),
            if it.revoke_url.is_some() { "yes" } else { "" },
        )
        .unwrap();
    }
    let mut stale = Vec::new();
    is_current(&folder("providers/README.md"), &table, &mut stale);
    assert!(stale.is_empty(), "UPDATE=1 writes it anew");
}

fn span(seconds: u64) -> String {
    match seconds {
        0..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[test]
fn no_providers_name_stands_in_the_code() {
    // They mean something else as well: a type, a variable, a word.
    let words =
        ["box", "x", "notion", "monday", "slack", "strava", "gumroad", "front", "close", "linear", "square", "ramp"];
    for file in sources(&folder("src")) {
        let path = file.display().to_string();
        // A job is made for one API, and says so; tests may take a provider for an example.
        if path.contains("/job/") || path.contains("/tests/") || path.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for name in names().filter(|name| !words.contains(name)) {
                let found = line.split(|c: char| !c.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case(name));
                assert!(!found, "{path} names {name}: {line}");
            }
            // A job may bear the name of the API that it is made for; "x" is a coordinate of a key, too.
            let of_a_job = line.contains("Job::") || line.contains("\"job\"");
            for name in words.into_iter().filter(|name| *name != "x" && !of_a_job) {
                assert!(!line.contains(&format!("\"{name}\"")), "{path} names {name}: {line}");
            }
        }
    }
}

fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn only_the_named_definition_is_parsed_and_that_takes_less_than_two_milliseconds() {
    let largest = names().max_by_key(|name| Definition::builtin_text(name).map_or(0, str::len)).unwrap();
    let once = |_| {
        let begin = std::time::Instant::now();
        assert!(Definition::builtin(largest).is_some());
        begin.elapsed()
    };
    // The least of many: what else the machine does is not the definition's time.
    let least = (0..50).map(once).min().unwrap();
    assert!(least < Duration::from_millis(2), "{largest}: {least:?}");
}

#[test]
fn a_form_and_its_json_say_the_same_of_every_code_exchange() {
    // What the golden files cannot show: that nothing of a form is encoded twice.
    for name in names() {
        let provider = provider(name);
        if provider.grant.asks_again() {
            continue;
        }
        let code = grant::authorization_code(&provider, &client(), "a b/%", REDIRECT, None);
        let renamed = provider.token.params.iter().find(|(_, value)| **value == "{code}".into());
        let field = renamed.map_or("code", |(name, _)| name.as_str());
        let json: Option<serde_json::Value> = serde_json::from_str(code.body()).ok();
        let sent = json.map_or_else(
            || {
                form_urlencoded::parse(code.body().as_bytes())
                    .find(|(key, _)| key == field)
                    .map(|(_, v)| v.into_owned())
            },
            |json| json[field].as_str().map(str::to_owned),
        );
        assert_eq!(sent.as_deref(), Some("a b/%"), "{name}");
    }
}
