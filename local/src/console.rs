//! Where lines for the person at the terminal go.

use std::io::Write as _;

/// The terminal, or nothing in tests.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Console {
    /// Standard output.
    Stdout,
    /// Standard error: standard output belongs to a program that reads it.
    Stderr,
    /// Nowhere.
    #[default]
    Silent,
}

impl Console {
    /// One line, after the name of whoever says it.
    pub(crate) fn say(self, who: &str, line: &str) {
        let text = format!("{who} | {line}\n");
        // Whoever closed the terminal does not want to hear of it.
        let _ = match self {
            Self::Stdout => std::io::stdout().write_all(text.as_bytes()),
            Self::Stderr => std::io::stderr().write_all(text.as_bytes()),
            Self::Silent => Ok(()),
        };
    }
}
