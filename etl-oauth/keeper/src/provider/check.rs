//! Mistakes that make a definition contradictory or unsafe; all are found before they are reported.

mod placement;

use http::HeaderName;

use super::{
    Definition, Provider,
    definition::TokenKind,
    grant::Grant,
    param::Param,
    request_spec::{Call, ClientAuth, Format, Proof, Verb},
    variable::{Source, placeholders},
};
use crate::token::Mark;

/// A mistake: the key, and what would be right.
pub(super) type Mistake = (String, String);

/// Every mistake of a definition.
pub(super) fn mistakes(definition: &Definition) -> Vec<Mistake> {
    let mut found = Vec::new();
    placement::variables(definition, &mut found);
    placement::urls(definition, &mut found);
    placement::templates(definition, &mut found);
    for (key, call) in definition.calls() {
        self::call(definition, key, call, &mut found);
    }
    essentials(definition, &mut found);
    rules(definition, &mut found);
    if found.is_empty() {
        // What the function itself does with it at start, with a value for each variable.
        let wrong =
            Provider::new("sample", definition.clone(), definition.sample_overrides()).err().unwrap_or_default();
        let keyed = wrong.iter().filter_map(|line| line.strip_prefix("provider sample: ")?.split_once(": "));
        found.extend(keyed.map(|(key, why)| (key.to_owned(), why.to_owned())));
    }
    found
}

/// What is wrong with the URLs of these keys, which the configuration gives and which hold variables: each variable must be
/// one of the definition's, in a place where it may stand. A sentence each.
pub(super) fn given_urls(definition: &Definition, keys: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    if !keys.is_empty() {
        placement::urls(definition, &mut found);
        placement::templates(definition, &mut found);
    }
    let given = found.into_iter().filter(|(key, _)| keys.contains(&key.as_str()));
    given.map(|(key, why)| format!("{key}: {why}")).collect()
}

fn call(definition: &Definition, key: &str, call: &Call, found: &mut Vec<Mistake>) {
    let mut wrong = |field: &str, why: &str| found.push((format!("{key}.{field}"), why.to_owned()));
    let as_token = matches!(key, "refresh" | "device.poll");
    let merged = if as_token { call.or(&definition.token) } else { call.clone() };
    let auth = merged.client_auth.unwrap_or(definition.client_auth);
    // The code that a device asks with is good for a token.
    let in_path = key == "device.poll" && definition.device.poll_url.iter().any(|url| url.contains("{device_code}"));
    let nothing_secret = key == "device.request" && auth == ClientAuth::None;
    let in_query = merged.method == Some(Verb::Get) || merged.format == Some(Format::Query);
    if merged.method == Some(Verb::Get) && matches!(merged.format, Some(Format::Form | Format::Json)) {
        wrong("format", "a GET has no body: take format away, or use method = \"POST\"");
    }
    let shown = (in_query && !nothing_secret) || in_path;
    if shown && !merged.secrets_in_query {
        wrong(
            "secrets_in_query",
            "must be true where tokens and the client's secret travel in a query, which the provider's logs show; most \
             providers take a form (RFC 6749 §2.3.1)",
        );
    }
    if !in_query && !in_path && call.secrets_in_query {
        wrong("secrets_in_query", "says that secrets travel in a query, and method and format say that they do not");
    }
    if call.bearer && !matches!(key, "revoke" | "introspect") {
        wrong("bearer", "belongs to [revoke] and [introspect] alone");
    }
    if let Some(auth) = call.client_auth
        && auth != ClientAuth::None
        && auth.proof() != definition.client_auth.proof()
    {
        wrong(
            "client_auth",
            "needs other secrets than client_auth of the definition: say there what they have in common",
        );
    }
    if call.bearer && call.client_auth.is_some() {
        wrong("client_auth", "either the token authorises the request (bearer) or the client does");
    }
    let header = call.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization")).map(|(_, text)| text);
    if header.is_some_and(|text| placeholders(text).next().is_none()) {
        wrong(
            "headers",
            "the Authorization header is client_auth's, or bearer's; one that is made of parts names them: \
             \"Bearer {client_assertion}\"",
        );
    }
    if usize::from(header.is_some()) + usize::from(merged.basic.is_some()) + usize::from(call.bearer) > 1
        || ((header.is_some() || merged.basic.is_some()) && auth.is_header())
    {
        wrong(
            if header.is_some() { "headers" } else { "basic" },
            "the request has two Authorization headers: client_auth = \"none\", \"post\" or \"private_key_jwt\" makes none",
        );
    }
    if merged.format != Some(Format::Json) && call.params.values().any(Param::needs_json) {
        wrong("params", "a table is for JSON alone: say format = \"json\"");
    }
    let sign = call.sign.iter().flat_map(|sign| [Some(&*sign.key), sign.text.as_deref(), Some(&*sign.value)]).flatten();
    let texts: Vec<&str> = call.params.values().flat_map(Param::texts).collect();
    let texts: Vec<&str> = texts.into_iter().chain(call.headers.values().map(String::as_str)).chain(sign).collect();
    let texts = || texts.iter().copied();
    for (name, proof) in [("client_secret", Proof::Secret), ("client_assertion", Proof::Key)] {
        if definition.client_auth.proof() != proof && texts().any(|text| placeholders(text).any(|used| used == name)) {
            let auth = if proof == Proof::Key { "private_key_jwt" } else { "post, basic, basic_raw or basic_secret" };
            wrong("params", &format!("{{{name}}} is not there: client_auth must be {auth}"));
        }
    }
    if let Some(sign) = &call.sign {
        let in_header = sign.header.as_ref();
        if (in_header.is_none() && sign.parameter.is_empty()) || sign.key.is_empty() {
            wrong("sign", "needs a parameter or a header, and a key");
        }
        if in_header.is_some_and(|name| HeaderName::try_from(name).is_err()) {
            wrong("sign.header", "is not the name of a header");
        }
        if !placeholders(&sign.value).any(|name| name == "signature")
            || (in_header.is_none() && sign.value != "{signature}")
        {
            wrong("sign.value", "is what the header says, with {signature} in it");
        }
        let of_body = |name: &str| matches!(name, "body" | "query");
        if in_header.is_none() && sign.text.iter().any(|text| placeholders(text).any(of_body)) {
            wrong("sign.text", "holds the body or the query, in which the signature itself stands: say header");
        }
    }
}

/// What a request is made for must be in it, under whatever name.
fn essentials(definition: &Definition, found: &mut Vec<Mistake>) {
    let authorize = definition.authorize.params.iter().map(|(name, text)| (name.clone(), Param::from(text.as_str())));
    for (key, params, name) in [
        ("authorize.params", &authorize.collect(), "state"),
        ("token.params", &definition.token.params, "code"),
        ("refresh.params", &definition.refresh.params, "refresh_token"),
    ] {
        let in_a_place = |text: &str| placeholders(text).any(|used| used == name);
        let sent = params.values().any(|param| param.texts().into_iter().any(in_a_place));
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
    for (key, marks) in [
        ("answer.success", definition.answer.success.as_slice()),
        ("answer.limited", definition.answer.limited.as_slice()),
        ("answer.refused", definition.answer.refused.as_slice()),
        ("api.expired_in", definition.api.expired_in.as_slice()),
        ("api.limits.told_in", definition.api.limits.told_in.as_slice()),
        ("device.pending", definition.device.pending.as_slice()),
        ("device.slow_down", definition.device.slow_down.as_slice()),
        ("device.denied", definition.device.denied.as_slice()),
        ("device.expired", definition.device.expired.as_slice()),
        ("lookup.only", definition.lookup.only.as_slice()),
        ("lookup.prefer", definition.lookup.prefer.as_slice()),
    ] {
        if !marks.iter().all(Mark::is_whole) {
            wrong(key, "needs at, the field, and is or has, what it says then; or status = [403]; or all of them");
        }
    }
    lookup(definition, &mut wrong);
    if definition.device != super::Device::default() && definition.device_url.is_none() {
        wrong("device", "needs device_url: where a device gets its codes");
    }
    if definition.device.page.as_deref().is_some_and(|page| super::checked_url(page).is_err()) {
        wrong("device.page", "must be an address that begins with https://");
    }
    for (name, token) in &definition.also {
        if token.access_token.is_empty() {
            wrong(&format!("also.{name}"), "needs access_token: where the answer has it");
        }
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            wrong(&format!("also.{name}"), "is named by small letters and digits: it ends the name of an account");
        }
        if definition.grant.asks_again() {
            wrong(&format!("also.{name}"), "belongs to a consent of a person");
        }
    }
    if definition.renewal_keeps_token && definition.grant.asks_again() {
        wrong("renewal_keeps_token", "belongs to grants with a refresh token: others are asked for a token again");
    }
    if definition.assertion.hmac.is_some() && definition.grant != Grant::JwtBearer {
        wrong(
            "assertion.hmac",
            "belongs to grant = \"jwt_bearer\": the client's own statement is signed by a private key",
        );
    }
    if definition.api.limits.concurrent == Some(0) {
        wrong("api.limits.concurrent", "is at least 1");
    }
    let shown = ["access_token", "refresh_token"].map(|name| definition.answer.reason.iter().any(|path| path == name));
    if shown.contains(&true) {
        wrong("answer.reason", "names fields that are shown to people: a token is none of them");
    }
    if definition.lifetime.zip(definition.renew_before).is_some_and(|(lifetime, before)| before >= lifetime) {
        wrong("renew_before", "must be less than lifetime: a token would be renewed as soon as it is there");
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
        if sign.header.is_some() || sign.text.is_some() {
            wrong("callback.sign", "is over all other parameters, in one of them: header and text are for requests");
        }
        if definition.client_auth.proof() != Proof::Secret
            && placeholders(&sign.key).any(|name| name == "client_secret")
        {
            wrong(
                "callback.sign.key",
                "{client_secret} is not there: client_auth must be post, basic, basic_raw or basic_secret",
            );
        }
    }
    if definition.proves_nothing() {
        wrong("client_auth", "\"none\" proves nothing, and grant = \"client_credentials\" has nothing else to show");
    }
    for (key, seconds) in [
        ("assertion.lifetime", definition.assertion.lifetime),
        ("device.lifetime", definition.device.lifetime),
        ("lifetime", definition.lifetime),
        ("renew_before", definition.renew_before),
        ("refresh_lifetime", definition.refresh_lifetime),
        ("grant_lifetime", definition.grant_lifetime),
        ("refresh_idle", definition.refresh_idle),
    ] {
        if seconds == Some(0) {
            wrong(key, "counts seconds, and is left out where it is not known");
        }
    }
    api(definition, &mut wrong);
    if definition.api.expired.iter().any(|status| !(400..500).contains(status)) {
        wrong("api.expired", "are statuses from 400 to 499");
    }
    if definition.api.limits.reset.is_none() && definition.api.limits.reset_unit != super::ResetUnit::default() {
        wrong("api.limits.reset_unit", "needs api.limits.reset: the header that it is the unit of");
    }
}

/// How the API is called.
fn api(definition: &Definition, wrong: &mut impl FnMut(&str, &str)) {
    let api = &definition.api;
    if api.headers.keys().any(|name| name.eq_ignore_ascii_case(&api.header)) {
        wrong("api.headers", "the header of the token is api.header's, with api.scheme before the token");
    }
    let limits = &api.limits;
    for (key, name) in [
        ("api.header", Some(&api.header)),
        ("api.idempotency", api.idempotency.as_ref()),
        ("api.limits.remaining", limits.remaining.as_ref()),
        ("api.limits.reset", limits.reset.as_ref()),
        ("api.limits.limit", limits.limit.as_ref()),
        ("api.limits.usage", limits.usage.as_ref()),
    ] {
        if name.is_some_and(|name| HeaderName::try_from(name).is_err()) {
            wrong(key, "is not the name of a header");
        }
    }
    if !api.has_token_once() {
        wrong("api.token", "holds {access_token} once, and nothing else to be filled in");
    }
    let is_secret = |name: &str| {
        name == "client_secret" || definition.variables.get(name).is_some_and(|it| it.from == Source::Secret)
    };
    let secret_in = |texts: &std::collections::BTreeMap<String, String>| {
        texts.values().any(|text| placeholders(text).any(is_secret))
    };
    match (secret_in(&api.params), api.secrets_in_query) {
        (true, false) => wrong(
            "api.secrets_in_query",
            "must be true where a secret stands in the query, which the provider's logs show; a header is better",
        ),
        (false, true) => {
            wrong("api.secrets_in_query", "says that a secret stands in the query, and api.params has none")
        }
        _ => {}
    }
    if api.params.keys().any(|name| matches!(&**name, "access_token" | "token")) {
        wrong("api.params", "a token goes into a header: api.header, api.scheme and api.token say how");
    }
    let texts = || api.headers.values().chain(api.params.values()).chain(definition.lookup.headers.values());
    let client_secret = texts().any(|text| placeholders(text).any(|name| name == "client_secret"));
    if client_secret && (definition.client_auth.proof() != Proof::Secret || !definition.asks_token_endpoint()) {
        wrong(
            "api.headers",
            "{client_secret} is not there: client_auth must be post, basic, basic_raw or basic_secret",
        );
    }
}

/// What is asked for of an account.
fn lookup(definition: &Definition, wrong: &mut impl FnMut(&str, &str)) {
    let wanted = definition.variables.values().any(|variable| variable.from == Source::Lookup);
    let placed = definition.lookup_url.is_some() || definition.userinfo_url.is_some();
    if wanted && !placed {
        wrong("lookup_url", "is missing: where the variables with from = \"lookup\" are asked for");
    }
    if !wanted && (definition.lookup_url.is_some() || definition.lookup != super::Lookup::default()) {
        wrong("lookup", "nothing is taken from it: a variable with from = \"lookup\" is");
    }
    if definition.lookup.method != Some(Verb::Post) && definition.lookup.params.values().any(Param::needs_json) {
        wrong("lookup.params", "a table is for JSON alone: say method = \"POST\"");
    }
}
