//! The words and the colour of an account's state.

use token_keeper::token::State;

/// How a state is put to people.
pub(super) trait Words {
    /// In two or three words.
    fn title(self) -> &'static str;
    /// In a sentence.
    fn words(self) -> &'static str;
    /// The class of its badge.
    fn colour(self) -> &'static str;
    /// Whether only a person can help.
    fn wants_a_person(self) -> bool;
}

impl Words for State {
    fn title(self) -> &'static str {
        match self {
            Self::Disabled => "Not connected",
            Self::Enabled => "Connected",
            Self::Degraded => "Connected, with trouble",
            Self::NeedsAuthorisation => "Must be authorised again",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Disabled => "No account is connected, so the function can do nothing.",
            Self::Enabled => "An account is connected.",
            Self::Degraded => {
                "There is a token, but renewing or saving it failed the last time. The function tries again by itself."
            }
            Self::NeedsAuthorisation => {
                "The provider no longer renews the token. Only a person can help: authorise it again."
            }
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Disabled => "",
            Self::Enabled => "ok",
            Self::Degraded => "warn",
            Self::NeedsAuthorisation => "bad",
        }
    }

    fn wants_a_person(self) -> bool {
        matches!(self, Self::Disabled | Self::NeedsAuthorisation)
    }
}
