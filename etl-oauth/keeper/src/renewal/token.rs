use std::sync::{Arc, LazyLock};

use arc_swap::Guard;

use super::token_cache::Current;
use crate::token::Tokens;

/// An access token, with what it was when it was handed out.
#[derive(Debug)]
pub struct Token {
    /// Lent by the keeper's cell. A reference count would be shared by all who call at the same time: two processors that
    /// write to it take turns, and are slower together than one alone.
    held: Guard<Option<Arc<Current>>>,
}

impl Clone for Token {
    fn clone(&self) -> Self {
        Self { held: Guard::from_inner(Option::clone(&self.held)) }
    }
}

impl Token {
    /// The token of a record, where it has one.
    pub(super) fn of(held: Guard<Option<Arc<Current>>>) -> Option<Self> {
        held.as_ref()?.stored.record.tokens.as_ref()?;
        Some(Self { held })
    }

    /// The tokens and what is known of them.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        static NONE: LazyLock<Tokens> = LazyLock::new(|| Tokens::bare(None, None));
        // `of` has looked.
        self.held.as_ref().and_then(|current| current.stored.record.tokens.as_ref()).unwrap_or(&NONE)
    }

    /// The access token itself, for the header that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.tokens().access_token.expose()
    }

    /// The generation that a refusal by the API must name.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.held.as_ref().map_or(0, |current| current.stored.record.generation)
    }
}
