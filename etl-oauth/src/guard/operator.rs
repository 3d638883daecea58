use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};
use jiff::Timestamp;

use super::Throttle;
use token_keeper::{secrets::Secrets, token::Secret};

/// The person who operates the function: whoever knows the secret `etl-oauth-operator`, as Basic password under any user
/// name, or as bearer.
#[derive(Debug)]
pub struct Operator {
    secrets: Secrets,
    throttle: Throttle,
}

/// What a request's credentials amount to as the operator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No operator's secret is mounted: there is no operator.
    Unknown,
    /// No credentials.
    Stranger,
    /// Wrong ones.
    Wrong,
    /// Credentials that were not looked at, since there were too many wrong ones: again after so many seconds.
    Throttled(u64),
    /// The operator, by Basic: a browser may have sent it unasked, so a POST needs a form's token too.
    Basic,
    /// The operator, by bearer: no browser sends one unasked.
    Bearer,
}

const SECRET: &str = "etl-oauth-operator";
/// What is shorter can be guessed in spite of the throttle.
const SHORT: usize = 16;

impl Operator {
    /// The operator whose secret is among `secrets`.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, throttle: Throttle::default() }
    }

    /// Whether there is one. An empty or unreadable secret is one that nobody knows.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.secrets.is_mounted(SECRET)
    }

    /// Whether the secret is short enough to be guessed.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.secrets.require(SECRET).is_ok_and(|secret| secret.expose().len() < SHORT)
    }

    /// Judges a request's credentials; and how much later to answer, where they are wrong.
    #[must_use]
    pub fn judge(&self, headers: &HeaderMap, now: Timestamp) -> (Standing, Duration) {
        if !self.exists() {
            return (Standing::Unknown, Duration::ZERO);
        }
        let Some((standing, given)) = credentials(headers) else { return (Standing::Stranger, Duration::ZERO) };
        let place = match self.throttle.enter(headers, now) {
            Ok(place) => place,
            Err(seconds) => return (Standing::Throttled(seconds), Duration::ZERO),
        };
        match (given, self.secrets.require(SECRET)) {
            (Some(given), Ok(secret)) if given.same(&secret) => {
                place.right(now);
                (standing, Duration::ZERO)
            }
            _ => (Standing::Wrong, place.wrong()),
        }
    }
}

/// The scheme and the secret of a request; no secret where they cannot be read, which is as good as a wrong one.
fn credentials(headers: &HeaderMap) -> Option<(Standing, Option<Secret>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default();
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((Standing::Bearer, Some(Secret::new(rest.trim()))));
    }
    let password = || {
        let pair = STANDARD.decode(rest.trim()).ok().and_then(|pair| String::from_utf8(pair).ok())?;
        Some(Secret::new(pair.split_once(':')?.1))
    };
    Some((Standing::Basic, scheme.eq_ignore_ascii_case("basic").then(password).flatten()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_is_known_by_password_or_bearer_and_nobody_is_without_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let operator = Operator::new(Secrets::new(folder.path(), ""));
        let mut now = Timestamp::UNIX_EPOCH;
        let mut standing = |value: &str| {
            now += jiff::SignedDuration::from_secs(3);
            operator.judge(&HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]), now).0
        };
        assert_eq!(standing("Bearer s3"), Standing::Unknown);
        std::fs::write(folder.path().join(SECRET), "").unwrap();
        assert_eq!(standing("Bearer "), Standing::Wrong);
        std::fs::write(folder.path().join(SECRET), "s3\n").unwrap();
        for (value, wanted) in [
            ("Bearer s3", Standing::Bearer),
            ("bearer  s3", Standing::Bearer),
            ("Basic YW55Ym9keTpzMw==", Standing::Basic),
            ("Basic OnMz", Standing::Basic),
            ("Basic YW55Ym9keTpzNA==", Standing::Wrong),
            ("Basic czM=", Standing::Wrong),
            ("Basic !", Standing::Wrong),
            ("Bearer s", Standing::Wrong),
            ("Bearer s33", Standing::Wrong),
            ("Bearer", Standing::Wrong),
            ("Digest s3", Standing::Wrong),
            ("", Standing::Wrong),
        ] {
            assert_eq!(standing(value), wanted, "{value}");
        }
        assert_eq!(operator.judge(&HeaderMap::new(), now).0, Standing::Stranger);
        assert!(operator.is_weak());
        std::fs::write(folder.path().join(SECRET), "correct horse battery").unwrap();
        assert!(!operator.is_weak());
    }

    #[test]
    fn thirty_wrong_ones_in_a_row_and_no_further_one_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SECRET), "s3").unwrap();
        let operator = Operator::new(Secrets::new(folder.path(), ""));
        let bearer = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        let now = Timestamp::UNIX_EPOCH;
        let wrong = (0..30).filter(|_| operator.judge(&bearer("Bearer no"), now).0 == Standing::Wrong).count();
        assert!((5..30).contains(&wrong), "{wrong}");
        assert_eq!(operator.judge(&bearer("Bearer s3"), now).0, Standing::Throttled(2), "a guess is not told apart");
        assert_eq!(operator.judge(&HeaderMap::new(), now).0, Standing::Stranger, "who sends none guesses nothing");
        let soon = now + jiff::SignedDuration::from_secs(2);
        assert_eq!(operator.judge(&bearer("Bearer s3"), soon).0, Standing::Bearer);
    }
}
