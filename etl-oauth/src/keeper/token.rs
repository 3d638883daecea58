use std::sync::Arc;

use crate::{store::Stored, token::Tokens};

/// An access token, with what it was when it was handed out.
#[derive(Clone, Debug)]
pub struct Token {
    stored: Arc<Stored>,
}

impl Token {
    pub(super) fn new(stored: Arc<Stored>) -> Option<Self> {
        stored.record.tokens.as_ref()?;
        Some(Self { stored })
    }

    /// The tokens and what is known of them.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        static NONE: std::sync::LazyLock<Tokens> = std::sync::LazyLock::new(|| Tokens::bare(None, None));
        // `new` has looked.
        self.stored.record.tokens.as_ref().unwrap_or(&NONE)
    }

    /// The generation that a refusal by the API must name.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.stored.record.generation
    }
}
