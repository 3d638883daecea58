//! The API's own message in an answer that is no success.

use http::{HeaderMap, header};

use super::json;
use crate::{text, token::Tokens};

/// The longest message that is kept, in bytes of the body.
const LONGEST: usize = 2 << 10;

/// A run of this many characters that holds letters and digits may be a token or a key.
const OF_A_KEY: usize = 20;

/// Why the API refused, in its own words: the first of `places` that the body has, else what RFC 9457 names in a problem
/// document, else the body's first 2 KiB. What is a token, or may be one, is cut out.
pub(super) fn of(headers: &HeaderMap, body: &[u8], places: &[String], tokens: Option<&Tokens>) -> Option<String> {
    let at = |place: &str| match json::text(body, place) {
        Ok(Some(text)) => Some(text),
        // A list or an object of reasons is shown as it is.
        _ => json::at(body, place).ok().flatten().map(|value| value.get().to_owned()),
    };
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_problem = kind.starts_with("application/problem+json");
    let problem = || ["detail", "title"].into_iter().filter(|_| is_problem).find_map(at);
    let words = places.iter().find_map(|place| at(place)).or_else(problem);
    let words = words.unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(LONGEST)]).into_owned());
    let words = without_secrets(&words, tokens);
    let words = text::cut(words.trim(), LONGEST);
    (!words.is_empty()).then_some(words)
}

/// The words without the account's own tokens, and without what looks like a key.
fn without_secrets(words: &str, tokens: Option<&Tokens>) -> String {
    let mut words = words.to_owned();
    let known = tokens.into_iter().flat_map(|tokens| {
        let others = [&tokens.refresh_token, &tokens.previous_refresh_token, &tokens.bound_to];
        [&tokens.access_token].into_iter().chain(others.into_iter().flatten())
    });
    // A shorter one is a test's, and would cut words to pieces.
    for secret in known.map(|secret| secret.expose()).filter(|secret| secret.len() >= 5) {
        words = words.replace(secret, "…");
    }
    let of_key = |c: char| c.is_ascii_alphanumeric() || "-_+=~".contains(c);
    let mut shown = String::with_capacity(words.len());
    let mut rest = words.as_str();
    while let Some(start) = rest.find(of_key) {
        let (before, from) = rest.split_at(start);
        let (run, after) = from.split_at(from.find(|c| !of_key(c)).unwrap_or(from.len()));
        shown.push_str(before);
        let has = |kind: fn(&u8) -> bool| run.as_bytes().iter().any(kind);
        let may_be_a_key =
            run.len() >= OF_A_KEY && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic) && !text::is_uuid(run);
        shown.push_str(if may_be_a_key { "…" } else { run });
        rest = after;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::token::Secret;

    fn message(kind: &'static str, body: &str, places: &[&str]) -> Option<String> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
        let places: Vec<_> = places.iter().map(|place| (*place).to_owned()).collect();
        let tokens = Tokens::bare(Some(Secret::new("short")), None);
        of(&headers, body.as_bytes(), &places, Some(&tokens))
    }

    #[test]
    fn the_definition_names_the_place_and_else_the_body_is_the_message() {
        let body = r#"{"error":{"message":"price is negative","code":7},"errors":["a","b"]}"#;
        let json = "application/json";
        assert_eq!(message(json, body, &["error.message"]).unwrap(), "price is negative");
        assert_eq!(message(json, body, &["nothing", "/errors"]).unwrap(), r#"["a","b"]"#);
        assert_eq!(message(json, body, &["nothing"]).unwrap(), body);
        assert_eq!(message("text/html", "<h1>\nBad</h1>\n", &["a"]).unwrap(), "<h1> Bad</h1>");
        let problem = r#"{"title":"Invalid","detail":"price is negative"}"#;
        assert_eq!(message("application/problem+json", problem, &[]).unwrap(), "price is negative");
        assert_eq!(message(json, "", &[]), None);
        assert_eq!(message("text/plain", &"é".repeat(4000), &[]).unwrap().chars().count(), 1024);
    }

    #[test]
    fn o6_tokens_and_what_looks_like_a_key_are_cut_out_of_the_message() {
        let cut = |body: &str| message("text/plain", body, &[]).unwrap();
        assert_eq!(cut("token short is dead, sk_live_0123456789abcdef too"), "token … is dead, … too");
        assert_eq!(cut("Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0abc123"), "Bearer ….…");
        for plain in [
            "customer.default_payment_method_of_the_account is wrong",
            "request 0c9a53e6-5e33-4c9b-8f0e-1e3a2b3c4d5e",
            "https://docs.example.com/errors/2026-11-21",
        ] {
            assert_eq!(cut(plain), plain);
        }
    }
}
