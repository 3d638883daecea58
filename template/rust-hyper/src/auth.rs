//! Who may call the function: the JWT middleware of OpenFaaS IAM, asked for by `jwt_auth`.

use http::{HeaderMap, StatusCode, header};

#[cfg(feature = "jwt")]
mod tokens;
#[cfg(feature = "jwt")]
pub(crate) use tokens::Auth;

/// A build that cannot check tokens; the configuration refuses `jwt_auth` there.
#[cfg(not(feature = "jwt"))]
pub(crate) enum Auth {}

#[cfg(not(feature = "jwt"))]
impl Auth {
    pub(crate) async fn load(_: Settings) -> Self {
        std::future::pending().await
    }

    pub(crate) async fn keep_fresh(&self) {
        match *self {}
    }

    pub(crate) async fn check(&self, _: &HeaderMap) -> Result<(), Denied> {
        match *self {}
    }
}

/// Whether this build can check tokens.
pub(crate) const IS_BUILT_IN: bool = cfg!(feature = "jwt");

/// Whose tokens are good, and for what.
#[cfg_attr(not(feature = "jwt"), allow(dead_code, reason = "the configuration refuses them there"))]
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Of the gateway: below it lies `.well-known/openid-configuration`.
    pub(crate) url: String,
    /// `namespace:function`, as permissions name it.
    pub(crate) function: String,
    /// Says in the log why a token was refused.
    pub(crate) debug: bool,
}

/// Why a call is not let in. What the caller is told has no detail of the token.
#[cfg_attr(not(feature = "jwt"), allow(dead_code, reason = "nobody is refused there"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Absent,
    Invalid,
    NotPermitted,
}

impl Denied {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Absent | Self::Invalid => StatusCode::UNAUTHORIZED,
            Self::NotPermitted => StatusCode::FORBIDDEN,
        }
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Absent => "Bearer must be present in Authorization header\n",
            Self::Invalid => "the token is not valid\n",
            Self::NotPermitted => "insufficient permissions\n",
        }
    }
}

/// The token of the first `Authorization` field. The scheme has to be there, in any case (RFC 9110, section 11.1).
#[cfg_attr(not(feature = "jwt"), allow(dead_code, reason = "only tokens are looked for"))]
fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let value = headers.get(header::AUTHORIZATION).ok_or(Denied::Absent)?;
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Denied::Absent)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Denied::Absent);
    }
    Ok(token.trim())
}

/// Whether `pattern`, in which `*` stands for any text, is all of `name`.
#[cfg_attr(not(feature = "jwt"), allow(dead_code, reason = "only tokens are looked for"))]
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    // There is a first part in any text.
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_all_of_the_name() {
        for pattern in ["dev:env", "*", "dev:*", "*:env", "dev:e*", "*v:e*v", "d*e*v", "dev:env*", "**"] {
            assert!(matches(pattern, "dev:env"), "{pattern}");
        }
        for pattern in [
            "",
            "dev:en",
            "v:env",
            "env",
            "dev",
            ":",
            "dev:env2",
            "mydev:env",
            "DEV:ENV",
            "dev:e.v",
            " dev:env",
            "prod:*",
            "*:en",
            "dev:env*v",
        ] {
            assert!(!matches(pattern, "dev:env"), "{pattern}");
        }
    }

    #[test]
    fn the_scheme_is_needed_in_any_case() {
        let headers = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        assert_eq!(bearer(&headers("bearer abc")), Ok("abc"));
        assert_eq!(bearer(&headers("Bearer  abc ")), Ok("abc"));
        for value in ["abc", "Basic abc", "Bearer"] {
            assert_eq!(bearer(&headers(value)), Err(Denied::Absent), "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), Err(Denied::Absent));
    }
}
