use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};
use jiff::Timestamp;

use super::{
    Throttle,
    throttle::{Guess, UNGUESSABLE},
};
use token_keeper::{secrets::Secrets, token::Secret};

/// The operator of the function, who knows the secret `etl-oauth-operator`. It is sent as Basic password under any user name,
/// as bearer, or on the sign-in form.
#[derive(Debug)]
pub struct Operator {
    secrets: Secrets,
    throttle: Throttle,
    /// Of the routes that the operator shares with callers.
    shared: Throttle,
}

/// What a request's credentials amount to as the operator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthOutcome {
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
    /// The operator, by the session of a browser that signed in: a POST needs a form's token, too.
    Session,
}

const SECRET: &str = "etl-oauth-operator";

impl Operator {
    /// The operator whose secret is among `secrets`.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, throttle: Throttle::default(), shared: Throttle::default() }
    }

    /// Whether there is one. An empty or unreadable secret lets no one in.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.secrets.is_mounted(SECRET)
    }

    /// Whether the secret is short enough to be guessed.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.secrets.require(SECRET).is_ok_and(|secret| secret.expose().len() < UNGUESSABLE)
    }

    /// Judges a request's credentials on a route of the operator's; and how much later to answer, where they are wrong.
    #[must_use]
    pub fn judge(&self, headers: &HeaderMap, now: Timestamp) -> (AuthOutcome, Duration) {
        let Some((standing, given)) = self.given(headers) else { return (self.stranger(), Duration::ZERO) };
        let (right, length) = self.compare(given);
        match self.throttle.judge(headers, right, length, now) {
            Guess::Right => (standing, Duration::ZERO),
            Guess::Wrong(pause) => (AuthOutcome::Wrong, pause),
            Guess::Throttled(seconds) => (AuthOutcome::Throttled(seconds), Duration::ZERO),
        }
    }

    /// Judges the password of the sign-in form.
    #[must_use]
    pub fn sign_in(&self, password: &Secret, headers: &HeaderMap, now: Timestamp) -> Guess {
        let (right, length) = self.compare(Some(password.clone()));
        self.throttle.judge(headers, right, length, now)
    }

    /// What sessions are bound to: a digest of the secret, so that another secret ends them all. `None` where there is none.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        self.secrets.require(SECRET).ok().map(|secret| secret.digest())
    }

    /// Recognises the operator on a route where callers send credentials of their own. Wrong ones are no guess at the
    /// operator's secret: they wait for nothing and leave no trace in [`Operator::judge`]. Only a secret that is short
    /// enough to be guessed is looked at no more often than there.
    #[must_use]
    pub fn recognise(&self, headers: &HeaderMap, now: Timestamp) -> AuthOutcome {
        let Some((standing, given)) = self.given(headers) else { return self.stranger() };
        let (right, length) = self.compare(given);
        if length >= UNGUESSABLE {
            return if right { standing } else { AuthOutcome::Wrong };
        }
        match self.shared.judge(headers, right, length, now) {
            Guess::Right => standing,
            Guess::Wrong(_) | Guess::Throttled(_) => AuthOutcome::Wrong,
        }
    }

    fn given(&self, headers: &HeaderMap) -> Option<(AuthOutcome, Option<Secret>)> {
        credentials(headers).filter(|_| self.exists())
    }

    fn stranger(&self) -> AuthOutcome {
        if self.exists() { AuthOutcome::Stranger } else { AuthOutcome::Unknown }
    }

    /// Whether that is the secret, and how long the secret is.
    fn compare(&self, given: Option<Secret>) -> (bool, usize) {
        self.secrets
            .require(SECRET)
            .map_or((false, 0), |secret| (given.is_some_and(|given| given.same(&secret)), secret.expose().len()))
    }
}

/// The scheme and the secret of a request; no secret where they cannot be read, which is as good as a wrong one.
fn credentials(headers: &HeaderMap) -> Option<(AuthOutcome, Option<Secret>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default();
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((AuthOutcome::Bearer, Some(Secret::new(rest.trim()))));
    }
    let password = || {
        let pair = STANDARD.decode(rest.trim()).ok().and_then(|pair| String::from_utf8(pair).ok())?;
        Some(Secret::new(pair.split_once(':')?.1))
    };
    Some((AuthOutcome::Basic, scheme.eq_ignore_ascii_case("basic").then(password).flatten()))
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
        assert_eq!(standing("Bearer s3"), AuthOutcome::Unknown);
        std::fs::write(folder.path().join(SECRET), "").unwrap();
        assert_eq!(standing("Bearer "), AuthOutcome::Wrong);
        std::fs::write(folder.path().join(SECRET), "s3\n").unwrap();
        for (value, wanted) in [
            ("Bearer s3", AuthOutcome::Bearer),
            ("bearer  s3", AuthOutcome::Bearer),
            ("Basic YW55Ym9keTpzMw==", AuthOutcome::Basic),
            ("Basic OnMz", AuthOutcome::Basic),
            ("Basic YW55Ym9keTpzNA==", AuthOutcome::Wrong),
            ("Basic czM=", AuthOutcome::Wrong),
            ("Basic !", AuthOutcome::Wrong),
            ("Bearer s", AuthOutcome::Wrong),
            ("Bearer s33", AuthOutcome::Wrong),
            ("Bearer", AuthOutcome::Wrong),
            ("Digest s3", AuthOutcome::Wrong),
            ("", AuthOutcome::Wrong),
        ] {
            assert_eq!(standing(value), wanted, "{value}");
        }
        assert_eq!(operator.judge(&HeaderMap::new(), now).0, AuthOutcome::Stranger);
        assert!(operator.is_weak());
        std::fs::write(folder.path().join(SECRET), "correct horse battery").unwrap();
        assert!(!operator.is_weak());
    }

    #[test]
    fn s4_the_right_secret_passes_a_flood_and_a_jobs_stale_credentials_are_no_guess() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SECRET), "0123456789abcdef").unwrap();
        let operator = Operator::new(Secrets::new(folder.path(), ""));
        let bearer = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        let (now, right) = (Timestamp::UNIX_EPOCH, bearer("Bearer 0123456789abcdef"));
        for _ in 0..100 {
            let _ = operator.judge(&bearer("Bearer no"), now);
            assert_eq!(operator.recognise(&bearer("Bearer stale"), now), AuthOutcome::Wrong);
            assert_eq!(operator.judge(&right, now), (AuthOutcome::Bearer, Duration::ZERO));
            assert_eq!(operator.recognise(&right, now), AuthOutcome::Bearer);
        }
        assert!(matches!(operator.judge(&bearer("Bearer no"), now).0, AuthOutcome::Throttled(_)));

        // A secret that can be guessed is throttled on the shared route as well, and by a count of its own.
        std::fs::write(folder.path().join(SECRET), "s3").unwrap();
        let operator = Operator::new(Secrets::new(folder.path(), ""));
        for _ in 0..40 {
            assert_eq!(operator.recognise(&bearer("Bearer stale"), now), AuthOutcome::Wrong);
        }
        assert_eq!(operator.recognise(&bearer("Bearer s3"), now), AuthOutcome::Wrong);
        assert_eq!(operator.judge(&bearer("Bearer s3"), now).0, AuthOutcome::Bearer);
    }

    #[test]
    fn thirty_wrong_ones_in_a_row_and_no_further_one_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SECRET), "s3").unwrap();
        let operator = Operator::new(Secrets::new(folder.path(), ""));
        let bearer = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        let now = Timestamp::UNIX_EPOCH;
        let wrong = (0..30).filter(|_| operator.judge(&bearer("Bearer no"), now).0 == AuthOutcome::Wrong).count();
        assert!((5..30).contains(&wrong), "{wrong}");
        assert_eq!(operator.judge(&bearer("Bearer s3"), now).0, AuthOutcome::Throttled(2), "a guess is not told apart");
        assert_eq!(operator.judge(&HeaderMap::new(), now).0, AuthOutcome::Stranger, "who sends none guesses nothing");
        let soon = now + jiff::SignedDuration::from_secs(2);
        assert_eq!(operator.judge(&bearer("Bearer s3"), soon).0, AuthOutcome::Bearer);
    }
}
