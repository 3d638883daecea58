use std::fmt;

use super::{DEFAULT_ACCOUNT, DEFAULT_CONNECTION, StoreError, check_account};

/// What a value is: tokens of an account, or anything else that a program keeps beside them. Each kind is a space of names
/// of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(&'static str);

impl Kind {
    /// The token records. Their names in every store are those of version 0.1.
    pub const TOKEN: Self = Self("");
    /// What a job remembers of an account between its runs.
    pub const JOB: Self = Self("job");

    /// A kind of the program's own. The name obeys the rule of account names.
    ///
    /// # Panics
    /// When the name does not; meant for constants, where that is a compile error.
    ///
    /// ```
    /// # use token_keeper::store::Kind;
    /// const LINK: Kind = Kind::named("link");
    /// ```
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        assert!(is_name(name), "a kind's name has lower-case letters, digits and `-` between them, 63 at most");
        Self(name)
    }

    /// The name; empty for [`Kind::TOKEN`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The space of names of this kind for `function`: the function's own for tokens, `FUNCTION.KIND` for the rest. No
    /// function has a dot in its name.
    #[must_use]
    pub fn space(self, function: &str) -> String {
        if self == Self::TOKEN { function.to_owned() } else { format!("{function}.{}", self.0) }
    }
}

/// The key of a value in a store: a kind, a connection, and a name (an account, a session, a link).
///
/// Keys are ordered by kind, then by connection, then by name. The connection [`DEFAULT_CONNECTION`] is not part of the
/// printed form, so that the keys of a program with one connection are those of version 0.1.
///
/// ```
/// use token_keeper::store::{Key, Kind};
///
/// assert_eq!(Key::account("ada")?.path(), "ada");
/// assert_eq!(Key::token("google", "ada")?.path(), "google.ada");
/// assert_eq!(Key::new(Kind::JOB, "default", "ada")?.to_string(), "job/ada");
/// # Ok::<(), token_keeper::store::StoreError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    kind: Kind,
    connection: Box<str>,
    name: Box<str>,
}

impl Key {
    /// The key of a value of any kind.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when connection or name breaks the rule of [`check_account`].
    pub fn new(kind: Kind, connection: &str, name: &str) -> Result<Self, StoreError> {
        check_account(connection)?;
        check_account(name)?;
        Ok(Self { kind, connection: connection.into(), name: name.into() })
    }

    /// The key of an account's tokens at a connection.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn token(connection: &str, account: &str) -> Result<Self, StoreError> {
        Self::new(Kind::TOKEN, connection, account)
    }

    /// The key of an account's tokens at the connection without a name.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn account(account: &str) -> Result<Self, StoreError> {
        Self::token(DEFAULT_CONNECTION, account)
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &str {
        &self.connection
    }

    /// The name: the account's for tokens.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Connection and name, `google.ada`; the name alone at the connection `default`. Good as a file name, a part of a
    /// Kubernetes name and of a NATS subject, and unambiguous within the kind: names have no dots.
    #[must_use]
    pub fn path(&self) -> String {
        if *self.connection == *DEFAULT_CONNECTION {
            return self.name.to_string();
        }
        format!("{}.{}", self.connection, self.name)
    }

    /// The key that [`Key::path`] printed.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it printed no such thing.
    pub fn from_path(kind: Kind, path: &str) -> Result<Self, StoreError> {
        let (connection, name) = path.split_once('.').unwrap_or((DEFAULT_CONNECTION, path));
        let key = Self::new(kind, connection, name)?;
        // `default.ada` is not the name of anything: `ada` is.
        if key.path() == path { Ok(key) } else { check_account(path).map(|()| key) }
    }

    /// What no key of the kind, the connection and the prefix of names is before.
    pub(super) fn first(kind: Kind, connection: Option<&str>, prefix: &str) -> Self {
        let name = if connection.is_some() { prefix } else { "" };
        Self { kind, connection: connection.unwrap_or_default().into(), name: name.into() }
    }

    /// The key of the same name and connection in another kind.
    #[must_use]
    pub fn of_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }
}

impl Default for Key {
    /// The tokens of the account `default` at the connection `default`.
    fn default() -> Self {
        Self { kind: Kind::TOKEN, connection: DEFAULT_CONNECTION.into(), name: DEFAULT_ACCOUNT.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind != Kind::TOKEN {
            write!(f, "{}/", self.kind.0)?;
        }
        f.write_str(&self.path())
    }
}

/// Whether `text` obeys the rule of [`check_account`].
pub(super) const fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > 63 || bytes[0] == b'-' || bytes[bytes.len() - 1] == b'-' {
        return false;
    }
    let mut index = 0;
    while index < bytes.len() {
        if !matches!(bytes[index], b'a'..=b'z' | b'0'..=b'9' | b'-') {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_form_is_read_back_and_the_default_connection_has_the_names_of_before() {
        for (connection, name, path) in [("default", "ada", "ada"), ("google", "ada", "google.ada"), ("a", "b", "a.b")]
        {
            for kind in [Kind::TOKEN, Kind::JOB, Kind::named("link")] {
                let key = Key::new(kind, connection, name).unwrap();
                assert_eq!(key.path(), path);
                assert_eq!(Key::from_path(kind, path).unwrap(), key);
            }
        }
        assert_eq!(Key::default(), Key::account("default").unwrap());
        assert_eq!(Kind::TOKEN.space("etl"), "etl");
        assert_eq!(Kind::JOB.space("etl"), "etl.job");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for path in ["", ".", "a.", ".a", "a.b.c", "A", "a_b", "-a", "a-", "default.ada", "a/b", &"a".repeat(64)] {
            assert!(matches!(Key::from_path(Kind::TOKEN, path), Err(StoreError::Refused(_))), "{path}");
        }
    }

    #[test]
    fn keys_are_ordered_by_connection_and_then_by_name() {
        let mut keys: Vec<Key> = ["b.a", "z", "a-b.c", "a.z", "a"]
            .map(|path| Key::from_path(Kind::TOKEN, path).unwrap())
            .into_iter()
            .collect();
        keys.sort();
        assert_eq!(keys.iter().map(Key::path).collect::<Vec<_>>(), ["a.z", "a-b.c", "b.a", "a", "z"]);
    }
}
