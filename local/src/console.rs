//! The terminal's lines.

use std::io::Write as _;

/// Where lines go.
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
    /// Writes a line after the name of its source.
    pub(crate) fn say(self, who: &str, line: &str) {
        let text = format!("{who} | {line}\n");
        // The terminal may have been closed.
        let _ = match self {
            Self::Stdout => std::io::stdout().write_all(text.as_bytes()),
            Self::Stderr => std::io::stderr().write_all(text.as_bytes()),
            Self::Silent => Ok(()),
        };
    }
}
