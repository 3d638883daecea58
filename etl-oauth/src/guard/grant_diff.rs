//! What a new grant would take away from the one that it replaces: that is asked before it is done.

use jiff::Timestamp;

use token_keeper::token::{Record, Subject};

/// What a person should know before a grant replaces another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concern {
    /// Another person granted it.
    OtherOwner {
        /// The person who granted the stored tokens.
        from: Subject,
        /// The person who granted the new ones; `None` where the provider does not say.
        to: Option<Subject>,
    },
    /// These scopes are granted now, and would not be.
    FewerScopes(Vec<String>),
    /// There is a refresh token now, and there would be none.
    NoRefreshToken,
}

/// Compares a new grant with the record that it would replace. `wanted` are the scopes that are asked for, which both got
/// where the provider does not say (RFC 6749 §5.1).
#[must_use]
pub fn concerns(old: &Record, new: &Record, wanted: &[String], now: Timestamp) -> Vec<Concern> {
    let (Some(held), Some(offered)) = (&old.tokens, &new.tokens) else { return Vec::new() };
    let mut concerns = Vec::new();
    if let Some(from) = &old.owner
        && new.owner.as_ref().is_none_or(|to| to.id != from.id)
    {
        concerns.push(Concern::OtherOwner { from: from.clone(), to: new.owner.clone() });
    }
    // A grant that is gone is better than none of them.
    let is_dead = old.health.needs_authorisation || (held.refresh_token.is_none() && !held.is_alive(now));
    if is_dead {
        return concerns;
    }
    let scopes = |scope: &Option<String>| match scope {
        Some(scope) => scope.split_whitespace().map(str::to_owned).collect(),
        None => wanted.to_vec(),
    };
    let granted = scopes(&offered.scope);
    // Losing a scope that is no longer wanted is no loss.
    let lost: Vec<String> =
        scopes(&held.scope).into_iter().filter(|one| wanted.contains(one) && !granted.contains(one)).collect();
    if !lost.is_empty() {
        concerns.push(Concern::FewerScopes(lost));
    }
    if held.refresh_token.is_some() && offered.refresh_token.is_none() {
        concerns.push(Concern::NoRefreshToken);
    }
    concerns
}

#[cfg(test)]
mod tests {
    use super::*;
    use token_keeper::token::AnswerShape;

    fn record(answer: &str, owner: Option<&str>) -> Record {
        let answer = AnswerShape::default().read(answer.as_bytes()).unwrap();
        let record = Record::default().authorised(answer, Timestamp::UNIX_EPOCH, None);
        Record { owner: owner.map(|id| Subject::new(id, None)), ..record }
    }

    const FULL: &str = r#"{"access_token":"a","refresh_token":"r","scope":"read write old"}"#;
    const POOR: &str = r#"{"access_token":"b","refresh_token":"s","scope":"read"}"#;
    const BARE: &str = r#"{"access_token":"c"}"#;

    #[test]
    fn another_owner_fewer_scopes_and_a_missing_refresh_token_are_asked_about() {
        let wanted = ["read", "write"].map(str::to_owned);
        let now = Timestamp::UNIX_EPOCH;
        let concerns = |old: &Record, new: &Record| super::concerns(old, new, &wanted, now);
        let full = || record(FULL, Some("7"));
        assert_eq!(concerns(&full(), &full()), []);
        assert_eq!(concerns(&Record::default(), &record(BARE, None)), [], "nothing is replaced");
        assert_eq!(concerns(&record(FULL, None), &full()), [], "nobody was known");
        assert_eq!(concerns(&full(), &record(POOR, Some("7"))), [Concern::FewerScopes(vec!["write".into()])]);
        assert_eq!(concerns(&full(), &record(BARE, Some("7"))), [Concern::NoRefreshToken], "all scopes, by silence");
        let to = Some(Subject::new("8", None));
        let from = Subject::new("7", None);
        let other = Concern::OtherOwner { from: from.clone(), to };
        assert_eq!(concerns(&full(), &record(FULL, Some("8"))), std::slice::from_ref(&other));
        let unknown = Concern::OtherOwner { from, to: None };
        assert_eq!(concerns(&full(), &record(FULL, None)), [unknown]);
        // Any grant is better than one that is gone, but not anybody's.
        let mut dead = full();
        dead.health.needs_authorisation = true;
        assert_eq!(concerns(&dead, &record(BARE, Some("7"))), []);
        assert_eq!(concerns(&dead, &record(BARE, Some("8"))), [other]);
    }
}
