//! Lenient reading of token answers (RFC 6749 §5.1, §5.2).

use std::{collections::BTreeMap, time::Duration};

use http::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json_path;
pub(crate) use crate::json_path::at;

use super::{
    Failure, FailureKind, Mark, Secret, Subject, jwt,
    lifetime::{self, Unit, lenient_scope},
    token_type,
};

/// The paths that lead beside the fields of a body begin so.
const HEADER: &str = "header:";
const COOKIE: &str = "cookie:";
const BODY: &str = "body:";

/// The longest value of a reason that is shown, in characters.
const LONGEST_REASON: usize = 200;

/// Where a provider's answer keeps what RFC 6749 §5.1 names: for each the fields that it may stand in, of which the first
/// that is there counts. A field is a JSON pointer (RFC 6901, `/data/access_token`), or a path with dots; `header:NAME` is a
/// header of the answer, `cookie:NAME` a cookie that it sets, and `body:` the whole body as a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AnswerShape {
    /// The access token.
    pub access_token: Vec<String>,
    /// The refresh token. Where the access token itself is exchanged for the next one, it is the same field.
    pub refresh_token: Vec<String>,
    /// The token type; none, or one that is missing, means bearer.
    pub token_type: Vec<String>,
    /// How long until the access token ends.
    pub expires_in: Vec<String>,
    /// When the access token ends, for answers without a lifetime.
    pub expires_at: Vec<String>,
    /// How long until the refresh token ends.
    pub refresh_expires_in: Vec<String>,
    /// When the refresh token ends, for answers without its lifetime.
    pub refresh_expires_at: Vec<String>,
    /// The granted scope.
    pub scope: Vec<String>,
    /// What a lifetime counts.
    pub unit: Unit,
    /// The fields that hold an error, whatever the HTTP status is.
    pub error: Vec<String>,
    /// The fields that hold a reason beside the error, such as a subtype or a number, and that may be shown to people. Texts
    /// in them that may be tokens are not shown.
    pub reason: Vec<String>,
    /// The signs of a rate limit that is reached, whatever the error is.
    pub limited: Vec<Mark>,
    /// The signs that the grant itself is refused, beside `invalid_grant` and `grant_errors`: a person must authorise again.
    pub refused: Vec<Mark>,
    /// Token types that mean a bearer token, beside `Bearer`.
    pub token_types: Vec<String>,
    /// The sign of a success, where the HTTP status is not enough.
    pub success: Option<Mark>,
}

impl Default for AnswerShape {
    fn default() -> Self {
        fn paths<const N: usize>(paths: [&str; N]) -> Vec<String> {
            paths.map(String::from).into()
        }
        Self {
            access_token: paths(["access_token"]),
            refresh_token: paths(["refresh_token"]),
            token_type: paths(["token_type"]),
            expires_in: paths(["expires_in"]),
            expires_at: paths(["expires_at"]),
            refresh_expires_in: paths(["refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"]),
            refresh_expires_at: paths(["refresh_token_expires_at"]),
            scope: paths(["scope", "scopes"]),
            unit: Unit::Seconds,
            error: paths(["error"]),
            reason: Vec::new(),
            limited: Vec::new(),
            refused: Vec::new(),
            token_types: Vec::new(),
            success: None,
        }
    }
}

/// A token endpoint's answer, read leniently.
#[derive(Clone, Debug)]
pub struct TokenResponse {
    /// The new access token; empty or not to be used in an [unfinished](Self::unfinished()) answer.
    pub access_token: Secret,
    /// The new refresh token. `None` means that the old one stays (RFC 6749 §6).
    pub refresh_token: Option<Secret>,
    /// The token type: as sent, `Bearer` for none and for other spellings of it.
    pub token_type: String,
    /// The granted scope, separated by spaces. `None` means what was asked for (RFC 6749 §5.1).
    pub scope: Option<String>,
    /// How long the access token lives.
    pub lifetime: Option<Duration>,
    /// When the access token ends, where the provider says so instead.
    pub expires_at: Option<Timestamp>,
    /// How long the refresh token lives.
    pub refresh_lifetime: Option<Duration>,
    /// The key that was shown with the request (RFC 9449): the tokens are bound to it where the server binds tokens.
    pub bound_to: Option<Secret>,
    /// When the refresh token ends, where the provider says so instead.
    pub refresh_expires_at: Option<Timestamp>,
    /// The whole answer but for the two tokens: some APIs need a field of it later.
    pub rest: Map<String, Value>,
    /// Why the access token is missing or must not be used. All else of the answer counts: a code that was spent, or a
    /// refresh token, has its successor here alone.
    pub unfinished: Option<Failure>,
    /// The account that granted it, where the provider was asked for that.
    pub owner: Option<Subject>,
    /// The values that the provider's definition wants kept with the tokens, by the names of its variables.
    pub kept: BTreeMap<String, String>,
}

/// Why a body is no token answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Neither a JSON object nor a form.
    #[error("the token endpoint's answer is neither a JSON object nor a form")]
    NotAnObject,
    /// No access token in it.
    #[error("the token endpoint's answer holds no access token")]
    NoAccessToken,
}

impl AnswerShape {
    /// Reads the body of a token endpoint's answer: JSON whatever its Content-Type says, else a form.
    ///
    /// An answer with a refresh token and no access token, and one whose token type is unknown (RFC 6749 §7.1: a client
    /// must not use such a token), are [unfinished](TokenResponse::unfinished()): what they hold is kept, and not used.
    ///
    /// # Errors
    /// [`Malformed`] when there is no token in it.
    pub fn read(&self, body: &[u8]) -> Result<TokenResponse, Malformed> {
        self.read_answer(&HeaderMap::new(), body, None)
    }

    /// The same with the headers of the answer; and with the token that is renewed, where an answer without one prolongs it.
    ///
    /// # Errors
    /// As [`AnswerShape::read`].
    pub fn read_answer(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        renewed: Option<&Secret>,
    ) -> Result<TokenResponse, Malformed> {
        let beside = self.beside(headers, body);
        let mut fields = match object(body) {
            Some(fields) => fields,
            None if beside.is_empty() && renewed.is_none() => return Err(Malformed::NotAnObject),
            None => Map::new(),
        };
        fields.extend(beside);
        let secret = |paths: &[String]| {
            first(&fields, paths, |value| value.as_str().filter(|token| !token.is_empty()).map(Secret::new))
        };
        let refresh_token = secret(&self.refresh_token);
        let access_token = secret(&self.access_token).or_else(|| renewed.cloned());
        if access_token.is_none() && refresh_token.is_none() {
            return Err(Malformed::NoAccessToken);
        }
        let told = first(&fields, &self.token_type, Some).filter(|kind| !kind.is_null()).map(text);
        let exchanged = fields.contains_key("issued_token_type");
        let also =
            told.as_ref().is_some_and(|told| self.token_types.iter().any(|known| known.eq_ignore_ascii_case(told)));
        let token_type = if also {
            Some("Bearer".to_owned())
        } else {
            token_type::known(told.as_deref().unwrap_or_default(), exchanged)
        };
        let unfinished = match (&access_token, &token_type) {
            (None, _) => {
                let why = Malformed::NoAccessToken.to_string();
                Some(Failure::new(FailureKind::MalformedAnswer, why))
            }
            (_, None) => Some(token_type::unknown(told.as_deref().unwrap_or_default())),
            _ => None,
        };
        let token_type = token_type.unwrap_or_else(|| token_type::cut(told.as_deref().unwrap_or_default()));
        let lifetime = |paths: &[String]| first(&fields, paths, |value| lifetime::seconds(value, self.unit));
        let answer = TokenResponse {
            access_token: access_token.unwrap_or_else(|| Secret::new("")),
            refresh_token,
            token_type,
            scope: first(&fields, &self.scope, lenient_scope),
            lifetime: lifetime(&self.expires_in),
            expires_at: first(&fields, &self.expires_at, lifetime::instant),
            refresh_lifetime: lifetime(&self.refresh_expires_in),
            bound_to: None,
            refresh_expires_at: first(&fields, &self.refresh_expires_at, lifetime::instant),
            rest: Map::new(),
            unfinished,
            owner: None,
            kept: BTreeMap::new(),
        };
        for path in self.access_token.iter().chain(&self.refresh_token) {
            json_path::remove(&mut fields, path);
        }
        Ok(TokenResponse { rest: fields, ..answer })
    }

    /// What the paths name beside the fields of the body, by those paths.
    fn beside(&self, headers: &HeaderMap, body: &[u8]) -> Map<String, Value> {
        let paths = [&self.access_token, &self.refresh_token, &self.expires_in, &self.expires_at, &self.scope];
        let value = |path: &String| {
            let text = if let Some(name) = path.strip_prefix(HEADER) {
                headers.get(name)?.to_str().ok()?.to_owned()
            } else if let Some(name) = path.strip_prefix(COOKIE) {
                let mut set = headers.get_all(http::header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
                set.find_map(|set| {
                    set.split(';').next()?.trim().strip_prefix(name)?.strip_prefix('=').map(str::to_owned)
                })?
            } else if path == BODY {
                let text: Option<String> = serde_json::from_slice(body).ok();
                text.or_else(|| Some(std::str::from_utf8(body).ok()?.trim().to_owned()))?
            } else {
                return None;
            };
            Some((path.clone(), text.into()))
        };
        paths.into_iter().flatten().filter_map(value).collect()
    }

    /// When a token ends, as its introspection says (RFC 7662 §2.2): in `exp`, or where a token answer says it. One that is
    /// not active has no end to wait for.
    #[must_use]
    pub fn end(&self, body: &[u8], now: Timestamp) -> Option<Timestamp> {
        let fields = object(body).filter(|fields| fields.get("active") != Some(&Value::Bool(false)))?;
        let told = || first(&fields, &self.expires_at, lifetime::instant);
        let lifetime = || first(&fields, &self.expires_in, |value| lifetime::seconds(value, self.unit));
        fields
            .get("exp")
            .and_then(lifetime::instant)
            .or_else(told)
            .or_else(|| lifetime().and_then(|lifetime| now.checked_add(lifetime).ok()))
    }

    /// The reason in a body, from the fields that may be shown: `name=value` each, without what may be a token.
    #[must_use]
    pub fn reason(&self, body: &[u8]) -> Option<String> {
        let fields = object(body).filter(|_| !self.reason.is_empty())?;
        let told = self.reason.iter().filter_map(|path| {
            let value = match at(&fields, path)? {
                Value::Null => return None,
                Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
                value => text(value),
            };
            let name = path.rsplit(['.', '/']).next().unwrap_or(path);
            let value = crate::text::without_tokens(&crate::text::cut(&value, LONGEST_REASON));
            (!value.is_empty()).then(|| format!("{name}={value}"))
        });
        let told: Vec<_> = told.collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    /// Whether an answer bears a sign of a rate limit that is reached.
    #[must_use]
    pub fn is_limited(&self, status: u16, body: &[u8]) -> bool {
        self.limited.iter().any(|mark| mark.is_on_answer(status, body))
    }

    /// Whether an answer bears a sign that the grant is refused.
    #[must_use]
    pub fn is_refused(&self, status: u16, body: &[u8]) -> bool {
        self.refused.iter().any(|mark| mark.is_on_answer(status, body))
    }

    /// The error in an answer's body: as RFC 6749 §5.2 has it, or by another sign. Some write a
    /// code, some a number, some an object around it, and some only `ok: false`.
    #[must_use]
    pub fn error(&self, status: u16, body: &[u8]) -> Option<String> {
        let fields = object(body)?;
        let code = first(&fields, &self.error, |value| match value {
            Value::String(code) => Some(code.clone()).filter(|code| !code.is_empty()),
            Value::Number(code) => Some(code.to_string()).filter(|code| code != "0"),
            Value::Bool(true) => Some("error".to_owned()),
            Value::Object(inner) => Some(
                ["code", "status", "type"]
                    .iter()
                    .find_map(|name| inner.get(*name).and_then(Value::as_str))
                    .unwrap_or("error")
                    .to_owned(),
            ),
            _ => None,
        });
        let not_ok = || match &self.success {
            None => fields.get("ok") == Some(&Value::Bool(false)),
            Some(success) => !success.is_on_answer(status, body),
        };
        code.or_else(|| not_ok().then(|| "not_ok".to_owned()))
    }
}

impl TokenResponse {
    /// A token that was made without a request.
    pub(crate) fn made(access_token: Secret, token_type: &str) -> Self {
        Self {
            access_token,
            refresh_token: None,
            token_type: token_type.to_owned(),
            scope: None,
            lifetime: None,
            expires_at: None,
            refresh_lifetime: None,
            refresh_expires_at: None,
            bound_to: None,
            unfinished: None,
            owner: None,
            rest: Map::new(),
            kept: BTreeMap::new(),
        }
    }

    /// Whether the expiry of the access token is known, from the answer or from the token itself.
    pub(crate) fn tells_its_end(&self) -> bool {
        self.lifetime.is_some() || self.expires_at.is_some() || jwt::expires_at(&self.access_token).is_some()
    }

    /// This answer with an access token that must not be used, such as one that was to be exchanged and was not: all else
    /// of it counts, and a later use renews.
    #[must_use]
    pub fn unfinished(self, why: Failure) -> Self {
        Self { unfinished: Some(self.unfinished.unwrap_or(why)), ..self }
    }

    /// Whether the access token is of use only with the key that it is [bound to](Self::bound_to).
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.token_type.eq_ignore_ascii_case("dpop")
    }

    /// What a second exchange makes of this answer: what it says counts, and what it leaves out stays.
    #[must_use]
    pub fn followed_by(self, second: Self) -> Self {
        let mut rest = self.rest;
        rest.extend(second.rest);
        let mut kept = self.kept;
        kept.extend(second.kept);
        Self {
            access_token: second.access_token,
            refresh_token: second.refresh_token.or(self.refresh_token),
            token_type: second.token_type,
            scope: second.scope.or(self.scope),
            // The first one's lifetime is that of a token that is no longer used.
            lifetime: second.lifetime,
            expires_at: second.expires_at,
            refresh_lifetime: second.refresh_lifetime.or(self.refresh_lifetime),
            bound_to: second.bound_to,
            refresh_expires_at: second.refresh_expires_at.or(self.refresh_expires_at),
            rest,
            unfinished: second.unfinished,
            owner: second.owner.or(self.owner),
            kept,
        }
    }
}

/// What the first of these paths has that `read` takes.
pub(crate) fn first<'a, T>(
    fields: &'a Map<String, Value>,
    paths: &[String],
    read: impl Fn(&'a Value) -> Option<T>,
) -> Option<T> {
    paths.iter().find_map(|path| at(fields, path).and_then(&read))
}

/// A value as a text: a string without its quotes.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The body as a JSON object, or a form read as one. The last of two fields of one name counts, as `JSON.parse` has it.
pub(crate) fn object(body: &[u8]) -> Option<Map<String, Value>> {
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        return match value {
            Value::Object(fields) => Some(fields),
            _ => None,
        };
    }
    let text = std::str::from_utf8(body).ok()?.trim();
    // Every text parses as a form of one field without a value; a page of HTML must not.
    if !text.contains('=') || text.contains(['<', '\n', ' ']) {
        return None;
    }
    Some(url::form_urlencoded::parse(text.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned().into())).collect())
}

#[cfg(test)]
mod tests;
