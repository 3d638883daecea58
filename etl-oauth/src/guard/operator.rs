use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};

use crate::{secrets::Secrets, token::Secret};

/// The person who operates the function: whoever knows the secret `etl-oauth-operator`, as Basic password under any user
/// name, or as bearer.
#[derive(Clone, Debug)]
pub struct Operator {
    secrets: Secrets,
}

/// What a request's credentials amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No operator's secret is mounted: there is no operator.
    Unknown,
    /// No credentials, or wrong ones.
    Stranger,
    /// The operator, by Basic: a browser may have sent it unasked, so a POST needs a form's token too.
    Basic,
    /// The operator, by bearer: no browser sends one unasked.
    Bearer,
}

const SECRET: &str = "etl-oauth-operator";

impl Operator {
    /// The operator whose secret is among `secrets`.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets }
    }

    /// Whether there is one. An empty or unreadable secret is one that nobody knows.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.secrets.is_mounted(SECRET)
    }

    /// Judges a request's credentials.
    #[must_use]
    pub fn standing(&self, headers: &HeaderMap) -> Standing {
        if !self.exists() {
            return Standing::Unknown;
        }
        let Ok(secret) = self.secrets.require(SECRET) else { return Standing::Stranger };
        let Some((scheme, rest)) = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
        else {
            return Standing::Stranger;
        };
        if scheme.eq_ignore_ascii_case("bearer") && Secret::new(rest.trim()).same(&secret) {
            return Standing::Bearer;
        }
        let password = || {
            let pair = STANDARD.decode(rest.trim()).ok().and_then(|pair| String::from_utf8(pair).ok())?;
            Some(Secret::new(pair.split_once(':')?.1))
        };
        if scheme.eq_ignore_ascii_case("basic") && password().is_some_and(|password| password.same(&secret)) {
            return Standing::Basic;
        }
        Standing::Stranger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_is_known_by_password_or_bearer_and_nobody_is_without_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let operator = Operator::new(Secrets::new(folder.path(), ""));
        let standing =
            |value: &str| operator.standing(&HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]));
        assert_eq!(standing("Bearer s3"), Standing::Unknown);
        std::fs::write(folder.path().join(SECRET), "").unwrap();
        assert_eq!(standing("Bearer "), Standing::Stranger);
        std::fs::write(folder.path().join(SECRET), "s3\n").unwrap();
        for (value, wanted) in [
            ("Bearer s3", Standing::Bearer),
            ("bearer  s3", Standing::Bearer),
            ("Basic YW55Ym9keTpzMw==", Standing::Basic),
            ("Basic OnMz", Standing::Basic),
            ("Basic YW55Ym9keTpzNA==", Standing::Stranger),
            ("Basic czM=", Standing::Stranger),
            ("Basic !", Standing::Stranger),
            ("Bearer s", Standing::Stranger),
            ("Bearer", Standing::Stranger),
            ("Digest s3", Standing::Stranger),
        ] {
            assert_eq!(standing(value), wanted, "{value}");
        }
        assert_eq!(operator.standing(&HeaderMap::new()), Standing::Stranger);
    }
}
