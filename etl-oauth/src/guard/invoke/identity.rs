//! Who a caller is, and which accounts it may use: the words behind a key in the secret, or the claims of a token.

use token_keeper::token::Secret;

/// How much of a key's digest stands for the name of a caller without one, in characters.
const DIGITS: usize = 8;

/// A caller that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    /// Connection and account each, where `*` is any; `None` permits every account.
    allow: Option<Vec<(String, String)>>,
}

impl Identity {
    /// A caller of that name with the rights of `allow`; without them it may use every account. `None` where a right cannot
    /// be read: it must not be taken for more than it is.
    #[must_use]
    pub fn new(name: &str, allow: Option<&str>) -> Option<Self> {
        let allow = match allow {
            None => None,
            Some(rights) => Some(rights.split(',').map(right).collect::<Option<Vec<_>>>()?),
        };
        Some(Self { name: name.to_owned(), allow })
    }

    /// Its name, as the audit has it: the one that it was given, else the first characters of its key's digest.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may use an account of a connection.
    #[must_use]
    pub fn may_use(&self, connection: &str, account: &str) -> bool {
        let fits = |pattern: &str, name: &str| pattern == "*" || pattern == name;
        self.allow
            .as_ref()
            .is_none_or(|rights| rights.iter().any(|right| fits(&right.0, connection) && fits(&right.1, account)))
    }
}

/// `google/ada`, `google/*`, `*/ada`; `google` alone is all of its accounts.
fn right(text: &str) -> Option<(String, String)> {
    let (connection, account) = text.split_once('/').unwrap_or((text, "*"));
    let is_name = |name: &str| {
        name == "*" || (!name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')))
    };
    (is_name(connection) && is_name(account)).then(|| (connection.to_owned(), account.to_owned()))
}

/// A line of the secret without the words `name=…` and `allow=…` at its end, and what those say. `None` where they cannot be
/// read.
pub(super) fn split(line: &str) -> Option<(&str, Words<'_>)> {
    let (mut key, mut words) = (line.trim_end(), Words::default());
    while let Some((before, word)) = key.rsplit_once(char::is_whitespace) {
        let field = match word.split_once('=') {
            Some(("name", name)) => (&mut words.name, name),
            Some(("allow", rights)) => (&mut words.allow, rights),
            _ => break,
        };
        // Twice, or empty: what was meant is not known.
        if field.0.replace(field.1).is_some() || field.1.is_empty() {
            return None;
        }
        key = before.trim_end();
    }
    Some((key.trim(), words))
}

/// The words behind a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Words<'a> {
    name: Option<&'a str>,
    allow: Option<&'a str>,
}

impl Words<'_> {
    /// The caller that holds `key`.
    pub(super) fn identify(self, key: &[u8]) -> Option<Identity> {
        let mut digest = Secret::new(hex(key)).digest();
        digest.truncate(DIGITS);
        Identity::new(self.name.unwrap_or(&digest), self.allow)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_key_and_then_words() {
        let read = |line| split(line).map(|(key, words)| (key, words.name, words.allow));
        assert_eq!(read("a word of several"), Some(("a word of several", None, None)));
        assert_eq!(read(" key name=reports "), Some(("key", Some("reports"), None)));
        assert_eq!(read("k allow=google/*,slack/ada  name=r"), Some(("k", Some("r"), Some("google/*,slack/ada"))));
        assert_eq!(read("name=r key"), Some(("name=r key", None, None)), "at the end alone");
        assert_eq!((read("k name=a name=b"), read("k allow=")), (None, None));
    }

    #[test]
    fn a_right_is_for_an_account_of_a_connection_and_one_that_cannot_be_read_is_none() {
        let rights = |allow| Identity::new("r", allow);
        let may = |allow, connection, account| rights(allow).unwrap().may_use(connection, account);
        assert!(may(None, "google", "ada"));
        let some = Some("google/*,slack/ada,*/shared,github");
        for (connection, account, may_use) in [
            ("google", "bob", true),
            ("slack", "ada", true),
            ("slack", "bob", false),
            ("x", "shared", true),
            ("github", "bob", true),
            ("default", "default", false),
        ] {
            assert_eq!(may(some, connection, account), may_use, "{connection}/{account}");
        }
        for wrong in ["", "a/b/c", "A/b", "google/", "/ada", "a, b"] {
            assert_eq!(rights(Some(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_caller_without_a_name_is_called_by_its_keys_digest() {
        let (key, words) = split("a key").unwrap();
        let caller = words.identify(key.as_bytes()).unwrap();
        assert!(caller.name().len() == 8 && caller.name() != "a key", "{caller:?}");
        assert_ne!(caller, words.identify(b"another").unwrap());
    }
}
