//! What a trace says.

use token_keeper::{
    renewal::{Event, Outcome},
    token::{FailureKind, Record, Secret},
};

/// A record in a line.
pub fn noted(record: &Record) -> String {
    let tokens = record.tokens.as_ref();
    let token = tokens.map(|tokens| tokens.refresh_token.as_ref().unwrap_or(&tokens.access_token));
    let token = token.map_or("-", Secret::expose);
    let intent = record.intent.as_ref().map(|intent| format!("{} #{}", intent.owner, intent.attempt));
    let health = &record.health;
    let (class, next, dead) = (health.class.map(FailureKind::as_str), health.next_try_at, health.needs_authorisation);
    format!("g{} {token} intent {intent:?} {class:?} next {next:?} dead {dead}", record.generation)
}

pub(super) fn shown(event: &Event) -> String {
    match event {
        Event::Loaded(Ok(Some(stored))) => format!("{} at {}", noted(&stored.record), stored.version.as_str()),
        Event::Answered(Ok(answer)) => format!("new tokens {}", answer.access_token.expose()),
        event => format!("{event:?}"),
    }
}

pub(super) fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Renewed(stored) => format!("renewed {}", noted(&stored.record)),
        Outcome::Adopted(stored) => format!("adopted {}", noted(&stored.record)),
        Outcome::Disabled(_) => "disabled".into(),
        Outcome::Failed(failure, _) => format!("failed: {} {failure}", failure.class()),
    }
}
