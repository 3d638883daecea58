//! What makes a definition contradictory or unsafe. Each is found before any is told.

use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue};

use super::{
    Definition,
    call::{Call, ClientAuth, Format, Proof, Verb},
    checked_url,
    definition::TokenKind,
    grant::Grant,
    variable::{Kind, Source, is_name, placeholders},
};

/// A mistake: the key, and what would be right.
pub(super) type Mistake = (String, String);

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

/// Every mistake of a definition.
pub(super) fn mistakes(definition: &Definition) -> Vec<Mistake> {
    let mut found = Vec::new();
    variables(definition, &mut found);
    urls(definition, &mut found);
    templates(definition, &mut found);
    for (key, call) in definition.calls() {
        self::call(definition, key, call, &mut found);
    }
    essentials(definition, &mut found);
    rules(definition, &mut found);
    found
}

fn variables(definition: &Definition, found: &mut Vec<Mistake>) {
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
            let named = variable.at.as_deref().is_some_and(|at| at.starts_with(SECRET_PREFIX));
            if !named || variable.default.is_some() || !matches!(variable.kind, Kind::Label | Kind::Text) {
                wrong(".at", "names the secret that is mounted, such as api-password; kind and default do not belong".into());
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
fn urls(definition: &Definition, found: &mut Vec<Mistake>) {
    for (key, url) in definition.urls() {
        let Some(url) = url else { continue };
        let mut wrong = |why: String| found.push((key.to_owned(), why));
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
    super::fill(url.split('#').next()?, value)
}

/// Whether what comes after a label is the rest of a host name of at least two labels, without a variable in it.
fn fixed_domain(after: &str) -> bool {
    let host = after.split(['/', '?', '#']).next().unwrap_or_default();
    let fixed = host.trim_start_matches(|first: char| first != '.');
    !host.contains(['{', '@', ':']) && fixed.matches('.').count() >= 2 && !fixed.ends_with('.')
}

fn templates(definition: &Definition, found: &mut Vec<Mistake>) {
    for (key, text) in definition.templates() {
        let known = known(&key);
        // A secret goes where the client's own goes, and never into an address.
        let secrets_too = known.contains(&"client_secret");
        for name in placeholders(text) {
            let variable = definition.variables.get(name);
            if variable.is_some_and(|variable| variable.from == Source::Secret) && !secrets_too {
                found.push((
                    key.clone(),
                    format!("{{{name}}} is a secret: it belongs into params, headers or the key of a signature of a request"),
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

fn call(definition: &Definition, key: &str, call: &Call, found: &mut Vec<Mistake>) {
    let mut wrong = |field: &str, why: &str| found.push((format!("{key}.{field}"), why.to_owned()));
    let merged = if key == "refresh" { call.or(&definition.token) } else { call.clone() };
    let in_query = merged.method == Some(Verb::Get) || merged.format == Some(Format::Query);
    if merged.method == Some(Verb::Get) && matches!(merged.format, Some(Format::Form | Format::Json)) {
        wrong("format", "a GET has no body: take format away, or use method = \"POST\"");
    }
    if in_query && !merged.secrets_in_query {
        wrong(
            "secrets_in_query",
            "must be true where tokens and the client's secret travel in a query, which the provider's logs show; most \
             providers take a form (RFC 6749 §2.3.1)",
        );
    }
    if !in_query && call.secrets_in_query {
        wrong("secrets_in_query", "says that secrets travel in a query, and method and format say that they do not");
    }
    if call.bearer && !matches!(key, "revoke" | "introspect") {
        wrong("bearer", "belongs to [revoke] and [introspect] alone");
    }
    if let Some(auth) = call.client_auth
        && auth != ClientAuth::None
        && auth.proof() != definition.client_auth.proof()
    {
        wrong("client_auth", "needs other secrets than client_auth of the definition: say there what they have in common");
    }
    if call.bearer && call.client_auth.is_some() {
        wrong("client_auth", "either the token authorises the request (bearer) or the client does");
    }
    if call.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization")) {
        wrong("headers", "the Authorization header is client_auth's, or bearer's");
    }
    let texts = || call.params.values().chain(call.headers.values()).chain(call.sign.iter().map(|sign| &sign.key));
    for (name, proof) in [("client_secret", Proof::Secret), ("client_assertion", Proof::Key)] {
        if definition.client_auth.proof() != proof && texts().any(|text| placeholders(text).any(|used| used == name)) {
            let auth = if proof == Proof::Key { "private_key_jwt" } else { "post, basic, basic_raw or basic_secret" };
            wrong("params", &format!("{{{name}}} is not there: client_auth must be {auth}"));
        }
    }
    if call.sign.as_ref().is_some_and(|sign| sign.parameter.is_empty() || sign.key.is_empty()) {
        wrong("sign", "needs a parameter and a key");
    }
}

/// What a request is made for must be in it, under whatever name.
fn essentials(definition: &Definition, found: &mut Vec<Mistake>) {
    for (key, params, name) in [
        ("authorize.params", &definition.authorize.params, "state"),
        ("token.params", &definition.token.params, "code"),
        ("refresh.params", &definition.refresh.params, "refresh_token"),
    ] {
        let sent = params.values().any(|text| placeholders(text).any(|used| used == name));
        if params.contains_key(name) && !sent {
            found.push((
                format!("{key}.{name}"),
                format!("takes {name} away: send {{{name}}} under another name, at least"),
            ));
        }
    }
}

fn rules(definition: &Definition, found: &mut Vec<Mistake>) {
    let mut wrong = |key: &str, why: &str| found.push((key.to_owned(), why.to_owned()));
    if definition.scope_separator.is_empty() {
        wrong("scope_separator", "must not be empty: \" \", \",\" or \"+\"");
    }
    if definition.scope.iter().any(|scope| scope.is_empty() || scope.contains(&definition.scope_separator)) {
        wrong("scope", "is a list of scopes, each without the separator in it");
    }
    if definition.introspect_url.is_none() && definition.issuer.is_none() && definition.introspect != Call::default() {
        wrong("introspect", "needs introspect_url: where a token's end is asked for");
    }
    if definition.second_url.is_none() && (definition.second != Call::default() || definition.second_on_renewal) {
        wrong("second", "needs second_url: where the second exchange goes");
    }
    let revokes =
        definition.revoke != Call::default() || definition.revoke_tokens != Definition::default().revoke_tokens;
    if definition.revoke_url.is_none() && definition.issuer.is_none() && revokes {
        wrong("revoke", "needs revoke_url: where revocations go");
    }
    if definition.revoke_tokens.is_empty() {
        wrong("revoke_tokens", "must name refresh_token, access_token or both");
    }
    if definition.revoke.bearer && definition.revoke_tokens.contains(&TokenKind::RefreshToken) {
        wrong("revoke_tokens", "must be [\"access_token\"]: a refresh token authorises no request");
    }
    if definition.userinfo_url.is_some() != definition.userinfo_id.is_some() {
        wrong(
            "userinfo_id",
            "userinfo_url and userinfo_id go together: where the account is told, and where its id is",
        );
    }
    for (key, pointer) in [("userinfo_id", &definition.userinfo_id), ("userinfo_name", &definition.userinfo_name)] {
        if pointer.as_ref().is_some_and(|pointer| !pointer.starts_with('/')) {
            wrong(key, "is a JSON pointer such as /data/id");
        }
    }
    if definition.answer.access_token.is_empty() {
        wrong("answer.access_token", "must name the field of the access token");
    }
    if definition.rotates == Some(false) && (definition.replay_window.is_some() || definition.previous_until_used) {
        wrong("rotates", "false needs neither replay_window nor previous_until_used: the refresh token stays good");
    }
    let whole = |uri: &String| uri.parse::<url::Url>().is_ok_and(|uri| uri.fragment().is_none());
    if !definition.resource.iter().all(whole) {
        wrong("resource", "is a list of absolute URIs without a fragment (RFC 8707)");
    }
    if let Some(sign) = &definition.callback.sign {
        if sign.parameter.is_empty() || sign.key.is_empty() {
            wrong("callback.sign", "needs a parameter and a key");
        }
        if definition.client_auth.proof() != Proof::Secret && placeholders(&sign.key).any(|name| name == "client_secret") {
            wrong("callback.sign.key", "{client_secret} is not there: client_auth must be post, basic, basic_raw or basic_secret");
        }
    }
    // A user and a password, for one, prove something too.
    let shows_secret = definition.variables.values().any(|variable| variable.from == Source::Secret);
    if definition.grant == Grant::ClientCredentials && definition.client_auth == ClientAuth::None && !shows_secret {
        wrong("client_auth", "\"none\" proves nothing, and grant = \"client_credentials\" has nothing else to show");
    }
    for (key, seconds) in [
        ("assertion.lifetime", definition.assertion.lifetime),
        ("lifetime", definition.lifetime),
        ("refresh_lifetime", definition.refresh_lifetime),
        ("grant_lifetime", definition.grant_lifetime),
        ("refresh_idle", definition.refresh_idle),
    ] {
        if seconds == Some(0) {
            wrong(key, "counts seconds, and is left out where it is not known");
        }
    }
    if definition.api.headers.keys().any(|name| name.eq_ignore_ascii_case(&definition.api.header)) {
        wrong("api.headers", "the header of the token is api.header's, with api.scheme before the token");
    }
    if HeaderName::try_from(definition.api.header.as_str()).is_err() {
        wrong("api.header", "is not the name of a header");
    }
    if definition.api.expired.iter().any(|status| !(400..500).contains(status)) {
        wrong("api.expired", "are statuses from 400 to 499");
    }
    if definition.api.limits.reset.is_none() && definition.api.limits.reset_unit != super::ResetUnit::default() {
        wrong("api.limits.reset_unit", "needs api.limits.reset: the header that it is the unit of");
    }
}
