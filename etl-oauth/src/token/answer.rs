use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Secret,
    lifetime::{self, Unit, lenient_scope},
};

/// Where a provider's answer keeps what RFC 6749 §5.1 names. A field is a path with dots (`data.access_token`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerShape {
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
    /// The token type; missing means bearer.
    pub token_type: String,
    /// Seconds until the access token ends.
    pub expires_in: String,
    /// When the access token ends, for answers without a lifetime.
    pub expires_at: String,
    /// Seconds until the refresh token ends: the first of these that is there.
    pub refresh_expires_in: Vec<String>,
    /// The granted scope.
    pub scope: Vec<String>,
    /// What a lifetime counts.
    pub unit: Unit,
}

impl Default for AnswerShape {
    fn default() -> Self {
        Self {
            access_token: "access_token".into(),
            refresh_token: "refresh_token".into(),
            token_type: "token_type".into(),
            expires_in: "expires_in".into(),
            expires_at: "expires_at".into(),
            refresh_expires_in: ["refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"]
                .map(String::from)
                .into(),
            scope: ["scope", "scopes"].map(String::from).into(),
            unit: Unit::Seconds,
        }
    }
}

/// A token endpoint's answer, read leniently.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The new access token, never empty.
    pub access_token: Secret,
    /// The new refresh token. `None` means that the old one stays (RFC 6749 §6).
    pub refresh_token: Option<Secret>,
    /// The token type as sent; `Bearer` when nothing was.
    pub token_type: String,
    /// The granted scope, separated by spaces. `None` means what was asked for (RFC 6749 §5.1).
    pub scope: Option<String>,
    /// How long the access token lives.
    pub lifetime: Option<Duration>,
    /// When the access token ends, where the provider says so instead.
    pub expires_at: Option<Timestamp>,
    /// How long the refresh token lives.
    pub refresh_lifetime: Option<Duration>,
    /// The key that the access token is bound to (RFC 9449), where it is.
    pub bound_to: Option<Secret>,
    /// The whole answer but for the two tokens: some APIs need a field of it later.
    pub rest: Map<String, Value>,
}

impl Answer {
    /// A token that nobody had to be asked for.
    pub(crate) fn made(access_token: Secret, token_type: &str) -> Self {
        Self {
            access_token,
            refresh_token: None,
            token_type: token_type.to_owned(),
            scope: None,
            lifetime: None,
            expires_at: None,
            refresh_lifetime: None,
            bound_to: None,
            rest: Map::new(),
        }
    }
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
    /// RFC 6749 §7.1: a client must not use a token of a type that it does not know.
    #[error("the token endpoint's answer is of a token type that this client cannot use")]
    UnknownType,
}

impl AnswerShape {
    /// Reads the body of a token endpoint's answer: JSON whatever its Content-Type says, else a form.
    ///
    /// # Errors
    /// [`Malformed`] when there is no usable access token in it.
    pub fn read(&self, body: &[u8]) -> Result<Answer, Malformed> {
        let mut fields = object(body).ok_or(Malformed::NotAnObject)?;
        let secret = |fields: &Map<String, Value>, path: &str| {
            at(fields, path).and_then(Value::as_str).filter(|token| !token.is_empty()).map(Secret::new)
        };
        let access_token = secret(&fields, &self.access_token).ok_or(Malformed::NoAccessToken)?;
        let refresh_token = secret(&fields, &self.refresh_token);
        let token_type = match at(&fields, &self.token_type) {
            None | Some(Value::Null) => "Bearer".to_owned(),
            Some(Value::String(kind)) if kind.is_empty() => "Bearer".to_owned(),
            Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") || kind.eq_ignore_ascii_case("dpop") => {
                kind.clone()
            }
            Some(_) => return Err(Malformed::UnknownType),
        };
        let answer = Answer {
            access_token,
            refresh_token,
            token_type,
            scope: self.scope.iter().find_map(|path| at(&fields, path).and_then(lenient_scope)),
            lifetime: at(&fields, &self.expires_in).and_then(|value| lifetime::seconds(value, self.unit)),
            expires_at: at(&fields, &self.expires_at).and_then(lifetime::instant),
            refresh_lifetime: self
                .refresh_expires_in
                .iter()
                .find_map(|path| at(&fields, path).and_then(|value| lifetime::seconds(value, self.unit))),
            bound_to: None,
            rest: Map::new(),
        };
        take(&mut fields, &self.access_token);
        take(&mut fields, &self.refresh_token);
        Ok(Answer { rest: fields, ..answer })
    }
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

/// The value at a path with dots.
pub(crate) fn at<'a>(fields: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut names = path.split('.');
    let mut value = fields.get(names.next()?)?;
    for name in names {
        value = match value {
            Value::Object(inner) => inner.get(name)?,
            Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

fn take(fields: &mut Map<String, Value>, path: &str) {
    match path.split_once('.') {
        None => {
            fields.remove(path);
        }
        Some((name, rest)) => {
            if let Some(Value::Object(inner)) = fields.get_mut(name) {
                take(inner, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Answer, Malformed> {
        AnswerShape::default().read(body.as_bytes())
    }

    #[test]
    fn f11_json_and_form_bodies_are_read_whatever_their_content_type_says() {
        for body in [
            r#"{"access_token":"a","refresh_token":"r","expires_in":"3600","scope":"x,y"}"#,
            "access_token=a&refresh_token=r&expires_in=3600&scope=x%2Cy",
        ] {
            let answer = read(body).unwrap();
            assert_eq!(answer.access_token.expose(), "a");
            assert_eq!(answer.refresh_token.unwrap().expose(), "r");
            assert_eq!(answer.lifetime, Some(Duration::from_secs(3600)));
            assert_eq!(answer.scope.as_deref(), Some("x y"));
            assert_eq!(answer.token_type, "Bearer");
        }
    }

    #[test]
    fn f11_duplicate_fields_missing_type_and_any_case_are_taken() {
        assert_eq!(read(r#"{"access_token":"old","access_token":"new"}"#).unwrap().access_token.expose(), "new");
        assert_eq!(read(r#"{"access_token":"a","token_type":"bEARER"}"#).unwrap().token_type, "bEARER");
        assert_eq!(read(r#"{"access_token":"a","token_type":null}"#).unwrap().token_type, "Bearer");
        assert_eq!(read(r#"{"access_token":"a","token_type":"mac"}"#).unwrap_err(), Malformed::UnknownType);
    }

    #[test]
    fn f3_an_answer_without_a_token_is_no_answer() {
        for body in [r#"{"ok":false,"error":"x"}"#, r#"{"access_token":""}"#, r#"{"access_token":null}"#, "{}", "a=b"] {
            assert_eq!(read(body).unwrap_err(), Malformed::NoAccessToken, "{body}");
        }
        for body in ["", "[]", "null", "<html><a href='x=y'>", "Service Unavailable", "\"access_token=a\"", "\u{0}"] {
            assert_eq!(read(body).unwrap_err(), Malformed::NotAnObject, "{body}");
        }
    }

    #[test]
    fn b4_an_empty_or_null_refresh_token_is_none() {
        for body in [
            r#"{"access_token":"a","refresh_token":""}"#,
            r#"{"access_token":"a","refresh_token":null}"#,
            r#"{"access_token":"a"}"#,
        ] {
            assert!(read(body).unwrap().refresh_token.is_none(), "{body}");
        }
    }

    #[test]
    fn f5_fields_nobody_asked_for_are_kept_and_the_tokens_are_not_kept_twice() {
        let answer =
            read(r#"{"access_token":"a","refresh_token":"r","id_token":"i","instance_url":"https://x"}"#).unwrap();
        let names: Vec<_> = answer.rest.keys().collect();
        assert_eq!(names, ["id_token", "instance_url"]);
    }

    #[test]
    fn tokens_are_found_by_path() {
        let shape = AnswerShape {
            access_token: "data.0.token".into(),
            refresh_token: "data.0.again".into(),
            ..AnswerShape::default()
        };
        let answer = shape.read(br#"{"data":[{"token":"a","again":"r"}]}"#).unwrap();
        assert_eq!(answer.access_token.expose(), "a");
        assert_eq!(answer.refresh_token.unwrap().expose(), "r");
    }
}
