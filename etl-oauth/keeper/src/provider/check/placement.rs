//! The places of variables: what may stand where, so that no value can lead to another host or carry a secret away.

use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue};

use super::{
    super::{
        Definition, Grant, checked_url, fill,
        variable::{Kind, Source, Variable, is_host, is_name, placeholders},
    },
    Mistake,
};

/// What a request can fill in by itself, beside the variables.
const KNOWN: [(&str, &[&str]); 11] = [
    ("authorize", &["client_id", "redirect_uri", "scope", "state"]),
    ("callback", &["client_id", "client_secret"]),
    ("token", &["assertion", "code", "code_verifier", "redirect_uri", "scope", "state", "subject_token"]),
    ("refresh", &["refresh_token", "redirect_uri", "scope"]),
    ("second", &["access_token", "refresh_token", "redirect_uri", "scope"]),
    ("revoke", &["token", "token_type_hint"]),
    ("introspect", &["token", "token_type_hint"]),
    ("device", &["device_code", "scope"]),
    ("assertion", &["client_id", "key_fingerprint"]),
    ("api", &["client_id", "client_secret"]),
    ("lookup", &["client_id", "client_secret"]),
];
/// What every request of the client's own can fill in.
const CLIENT: [&str; 6] = ["client_id", "client_secret", "client_assertion", "timestamp", "timestamp_ms", "random"];
/// What a signature is made of beside that.
const SIGNED: [&str; 5] = ["path", "method", "query", "body", "signature"];
/// The secrets that a definition may name begin so: one from elsewhere must not be able to ask for a function's other secrets.
const SECRET_PREFIX: &str = "api-";

/// What can be filled in at a key.
fn known(key: &str) -> Vec<&'static str> {
    let place = key.split('.').next().unwrap_or_default();
    let own = KNOWN.iter().find(|(known, _)| *known == place).map_or(&[][..], |(_, known)| known);
    if key == "device.poll_url" {
        return vec!["client_id", "device_code"];
    }
    let client: &[_] = match place {
        "device" | "token" | "refresh" | "second" | "revoke" | "introspect" => &CLIENT,
        "authorize_url" | "token_url" | "refresh_url" | "second_url" | "revoke_url" | "introspect_url"
        | "device_url" | "par_url" | "userinfo_url" | "lookup_url" => &["client_id"],
        _ => &[],
    };
    let signed: &[_] = match key.rsplit_once(".sign.") {
        Some((_, "before")) => &SIGNED[..2],
        Some((_, "text")) => &SIGNED[..4],
        Some((_, "value")) => &SIGNED[4..],
        _ => &[],
    };
    [client, own, signed].concat()
}

pub(super) fn variables(definition: &Definition, found: &mut Vec<Mistake>) {
    let used: BTreeSet<&str> = definition.templates().iter().flat_map(|(_, text)| placeholders(text)).collect();
    for (name, variable) in &definition.variables {
        let mut wrong = |key: &str, why: String| found.push((format!("variables.{name}{key}"), why));
        let filled_in =
            KNOWN.iter().flat_map(|(_, known)| *known).chain(&CLIENT).chain(&SIGNED).any(|known| known == name);
        if !is_name(name) || name == "file" || filled_in {
            wrong(
                "",
                "a variable's name has small letters, digits and _, and is none that a request fills in itself".into(),
            );
        } else if !used.contains(name.as_str()) && matches!(variable.from, Source::Configuration | Source::Secret) {
            wrong("", format!("nothing uses it; write {{{name}}} where its value belongs, or take it away"));
        }
        if variable.from == Source::Configuration && variable.at.is_some() {
            wrong(".at", "belongs to from = \"answer\", \"redirect\", \"lookup\" or \"secret\" alone".into());
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
        closed_values(variable, &mut wrong);
        if let Some(default) = &variable.default
            && let Err(right) = variable.check(default)
        {
            wrong(".default", format!("must be {right}"));
        }
    }
}

/// Whether a URL, or the API's that it is below, waits for the lookup.
fn looked_up(definition: &Definition, url: &str) -> bool {
    let base = definition.api_url.as_deref().filter(|_| url.starts_with('/')).unwrap_or_default();
    let waits =
        |name: &str| definition.variables.get(name).is_some_and(|it| it.from == Source::Lookup && it.default.is_none());
    placeholders(url).chain(placeholders(base)).any(waits)
}

/// A closed list holds what may stand in a host or a path, whichever place the variable has.
fn closed_values(variable: &Variable, wrong: &mut impl FnMut(&str, String)) {
    if !variable.is_closed() {
        return;
    }
    if variable.kind == Kind::Origin || variable.from == Source::Secret || !variable.hosts.is_empty() {
        wrong(".values", "belongs to labels, hosts, segments and texts; an origin is one of hosts = […]".into());
    }
    let plain = |value: &String| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte));
    for value in &variable.values {
        let good = match variable.kind {
            Kind::Host => is_host(value),
            Kind::Text => !value.chars().any(char::is_control),
            _ => plain(value) && !value.contains(".."),
        };
        if !good {
            wrong(".values", format!("{value:?} cannot stand in a URL: letters, digits, hyphens and dots can"));
        }
    }
}

/// The places of one variable in a URL, each with the text before and after it.
fn places<'a>(url: &'a str, name: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let place = format!("{{{name}}}");
    let ends: Vec<_> = url.match_indices(&place).map(|(at, place)| (at, at + place.len())).collect();
    ends.into_iter().map(|(at, end)| (&url[..at], &url[end..]))
}

/// What is wrong with a variable in this place of a URL; `None` where it may stand there.
fn misplaced(definition: &Definition, name: &str, before: &str, after: &str) -> Option<String> {
    let place = format!("{{{name}}}");
    let host = before.strip_prefix("https://");
    let in_host = host.is_some_and(|host| !host.contains(['/', '?', '#']));
    let in_path = before.matches('/').count() >= 3 || (before.starts_with('{') && before.contains('/'));
    let ends = after.is_empty() || after.starts_with(['/', '?', '#']);
    if matches!(name, "client_id" | "device_code") {
        return (!in_path).then(|| format!("{place} must stand in the path or the query: https://host/…/{place}/…"));
    }
    let variable = definition.variables.get(name)?;
    match variable.kind {
        Kind::Label | Kind::Labels if in_host && (variable.is_closed() || fixed_domain(definition, after)) => None,
        Kind::Label if in_path => None,
        Kind::Label | Kind::Labels => Some(format!(
            "{place} must stand before a fixed domain: https://{place}.example.com/…; where it is one of a few, such as a \
             region or a top-level domain, list them: variables.{name}.values = [\"com\", \"eu\"]"
        )),
        Kind::Host if host == Some("") && ends => None,
        Kind::Host => Some(format!("{place} is a host and must stand for the whole of it: https://{place}/…")),
        Kind::Origin if before.is_empty() && ends => None,
        Kind::Origin => Some(format!("{place} is an origin and must stand at the beginning: {place}/…")),
        Kind::Segment if in_path => None,
        Kind::Segment => Some(format!("{place} must stand in the path: https://host/…/{place}/…")),
        Kind::Text => {
            Some(format!("{place} is any text and must not stand in a URL; give it kind = \"segment\" or \"label\""))
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
        let below_api = matches!(key, "userinfo_url" | "lookup_url");
        if url.starts_with('/') && (!below_api || definition.api_url.is_none()) {
            wrong("is a path: only userinfo_url and lookup_url may be one, below api_url".into());
        }
        let asked = key == "lookup_url" || (key == "userinfo_url" && definition.lookup_url.is_none());
        if asked && looked_up(definition, url) {
            wrong("holds what it is asked for: a variable with from = \"lookup\" is not known before".into());
        }
        for name in placeholders(url).collect::<BTreeSet<_>>() {
            for (before, after) in places(url, name) {
                if let Some(why) = misplaced(definition, name, before, after) {
                    wrong(why);
                }
            }
            let Some(variable) = definition.variables.get(name) else { continue };
            let place = format!("{{{name}}}");
            let late = variable.from != Source::Configuration && variable.default.is_none();
            if late && key == "authorize_url" {
                wrong(format!("{place} is not known before a person is back; give the variable a default"));
            }
            let without_redirect = definition.grant != Grant::AuthorizationCode;
            if key == "token_url" && variable.from == Source::Redirect && without_redirect {
                wrong(format!("{place} comes with a redirect, and grant = \"{}\" has none", definition.grant.name()));
            }
            let answered = matches!(variable.from, Source::Answer | Source::Lookup);
            if key == "token_url" && answered && variable.default.is_none() {
                wrong(format!(
                    "{place} is not known before the answer that it is asked for; give the variable a default"
                ));
            }
        }
        let wrong_sample = samples(definition, url).into_iter().find_map(|sample| sound(&sample).err());
        if let Some(why) = wrong_sample {
            wrong(why);
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

/// The URL with something in the places of its variables, once for each value of a closed list; none where a place is not
/// described.
fn samples(definition: &Definition, url: &str) -> Vec<String> {
    if url.starts_with('/') {
        return Vec::new();
    }
    let url = url.replace("{client_id}", "a").replace("{device_code}", "a");
    let url = url.split('#').next().unwrap_or_default();
    let closed = |name: &str| definition.variables.get(name).filter(|variable| variable.is_closed());
    let most = placeholders(url).filter_map(closed).map(|variable| variable.values.len()).max().unwrap_or(1);
    let with = |turn: usize| {
        fill(url, |name| {
            let variable = definition.variables.get(name)?;
            Some(match variable.kind {
                _ if variable.is_closed() => &*variable.values[turn.min(variable.values.len() - 1)],
                Kind::Label | Kind::Labels | Kind::Segment | Kind::Text => "a",
                Kind::Host => "a.example",
                Kind::Origin => "https://a.example",
            })
        })
    };
    (0..most).filter_map(with).collect()
}

/// Whether a URL whose variables are filled in is one, with a host that is written as it is meant.
fn sound(url: &str) -> Result<(), String> {
    let parsed = checked_url(url).map_err(|why| why.to_string())?;
    let host = parsed.host_str().unwrap_or_default();
    // An address as [::1] or a name without dots is a host of this machine, which `checked_url` has looked at.
    if host.contains('.') && host.parse::<std::net::IpAddr>().is_err() && !is_host(host) {
        return Err(format!("{host} is no host name; look at the values of its variables"));
    }
    Ok(())
}

/// Whether what comes after a label ends as a host name of at least two fixed labels. Variables with a closed list of values
/// are as fixed as text; other labels may stand between.
fn fixed_domain(definition: &Definition, after: &str) -> bool {
    let host = after.split(['/', '?', '#']).next().unwrap_or_default();
    let value = |name: &str| {
        let variable = definition.variables.get(name)?;
        match variable.kind {
            Kind::Label | Kind::Labels if variable.is_closed() => {
                // The value that leaves the least of a fixed domain.
                variable.values.iter().min_by_key(|value| value.matches('.').count()).map(String::as_str)
            }
            // A mark that no host has.
            Kind::Label | Kind::Labels => Some("}"),
            _ => None,
        }
    };
    let Some(host) = fill(host, value) else { return false };
    let tail = host.rsplit_once('}').map_or(&*host, |(_, tail)| tail);
    let fixed = tail.trim_start_matches(|first: char| first != '.');
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
