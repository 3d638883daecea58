//! The `token_type` of an answer (RFC 6749 §7.1), in the spellings that providers use.

use super::{Failure, FailureKind};

/// The longest unknown type that is kept and shown, in characters.
const LONGEST: usize = 40;

/// Spellings of bearer that do not hold the word, without case, spaces and signs between words.
const ALSO_BEARER: [&str; 3] = ["accesstoken", "useraccesstoken", "applicationaccesstoken"];

/// The type as it is used: `Bearer` for none and for odd spellings of it (`BearerToken`, `jwt-bearer`, `User Access Token`);
/// `DPoP` and `bearer` as sent. `None` for a type that this client cannot use. `exchanged` is an answer of RFC 8693, whose
/// type may be `N_A` (§2.2.1): such a token is shown as a bearer token all the same.
pub(super) fn known(sent: &str, exchanged: bool) -> Option<String> {
    if sent.eq_ignore_ascii_case("bearer") || sent.eq_ignore_ascii_case("dpop") {
        return Some(sent.to_owned());
    }
    let plain: String = sent.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let bearer = sent.is_empty()
        || ["bearer", "bearertoken", "jwtbearer", "bearerjwt"].contains(&&*plain)
        || ALSO_BEARER.contains(&&*plain)
        || (exchanged && sent == "N_A");
    bearer.then(|| "Bearer".to_owned())
}

/// An unknown type as it is kept.
pub(super) fn cut(sent: &str) -> String {
    crate::text::cut(sent, LONGEST)
}

/// What is wrong with an unknown type, and what to do.
pub(super) fn unknown(sent: &str) -> Failure {
    let sent = crate::text::without_tokens(&cut(sent));
    Failure::new(
        FailureKind::Config,
        format!(
            "the provider's tokens are of the type {sent:?}, which this client cannot use; they are kept. Where the API takes \
             them as bearer tokens, set answer.token_type = [] in the provider's definition"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h5_odd_spellings_of_bearer_are_bearer_and_other_types_are_not() {
        for sent in [
            "",
            "User Access Token",
            "BearerToken",
            "jwt-bearer",
            "bearer_token",
            "Bearer JWT",
            "Application Access Token",
        ] {
            assert_eq!(known(sent, false).as_deref(), Some("Bearer"), "{sent}");
        }
        for sent in ["bEARER", "DPoP", "dpop"] {
            assert_eq!(known(sent, false).as_deref(), Some(sent));
        }
        assert_eq!(known("N_A", true).as_deref(), Some("Bearer"));
        for sent in ["N_A", "mac", "pop", "not a bearer", "Basic"] {
            assert_eq!(known(sent, false), None, "{sent}");
        }
    }
}
