//! The list of accounts, as a table with a search.

use serde::Serialize;

use token_keeper::token::State;

/// How many accounts there are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Never authorised, or revoked.
    pub disabled: u64,
    /// All is well.
    pub enabled: u64,
    /// Something is wrong that may pass.
    pub degraded: u64,
    /// A person must authorise again.
    pub needs_authorisation: u64,
}

impl Counts {
    /// Counts states.
    pub fn of(states: impl Iterator<Item = State>) -> Self {
        let mut counts = Self::default();
        for state in states {
            *match state {
                State::Disabled => &mut counts.disabled,
                State::Enabled => &mut counts.enabled,
                State::Degraded => &mut counts.degraded,
                State::NeedsAuthorisation => &mut counts.needs_authorisation,
            } += 1;
        }
        counts
    }

    /// Each state with its number.
    pub(super) fn each(&self) -> [(State, u64); 4] {
        [
            (State::NeedsAuthorisation, self.needs_authorisation),
            (State::Degraded, self.degraded),
            (State::Enabled, self.enabled),
            (State::Disabled, self.disabled),
        ]
    }

    /// All of them.
    pub(super) fn total(&self) -> u64 {
        self.each().iter().map(|(_, number)| number).sum()
    }
}

/// What the list was searched for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// The beginning of the names.
    pub prefix: String,
    /// The state.
    pub state: Option<State>,
}

impl Search {
    /// Whether a state is searched for.
    pub(super) fn is(&self, state: &State) -> bool {
        self.state == Some(*state)
    }

    /// The search as a query, for the link to the next page.
    pub(super) fn query(&self, cursor: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if !self.prefix.is_empty() {
            query.append_pair("q", &self.prefix);
        }
        if let Some(state) = self.state {
            query.append_pair("state", state.as_str());
        }
        query.append_pair("cursor", cursor).finish()
    }
}
