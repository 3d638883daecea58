//! Who a caller is, and what it may use.

use token_keeper::{store::check_account, token::Secret};

/// How much of a key's digest stands for a caller without a name.
const DIGEST: usize = 8;

/// An authenticated caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    name: String,
    rights: Rights,
}

/// The accounts that a caller may use: all, or those of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Option<Vec<(String, Option<String>)>>);

impl Rights {
    /// Reads a list with commas: `google/*` is every account at a connection, `slack/ada` one.
    ///
    /// ```
    /// use etl_oauth::guard::Rights;
    ///
    /// let rights = Rights::parse("google/*,slack/ada").unwrap();
    /// assert!(rights.allow("google", "grace") && rights.allow("slack", "ada") && !rights.allow("slack", "grace"));
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let entry = |entry: &str| {
            let (connection, account) = entry.split_once('/')?;
            check_account(connection).ok()?;
            if account == "*" {
                return Some((connection.to_owned(), None));
            }
            check_account(account).ok()?;
            Some((connection.to_owned(), Some(account.to_owned())))
        };
        let entries = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        entries.map(entry).collect::<Option<_>>().map(|entries| Self(Some(entries)))
    }

    /// Whether the account may be used.
    #[must_use]
    pub fn allow(&self, connection: &str, account: &str) -> bool {
        let fits =
            |(of, one): &(String, Option<String>)| of == connection && one.as_ref().is_none_or(|it| it == account);
        self.0.as_ref().is_none_or(|entries| entries.iter().any(fits))
    }
}

impl Identity {
    /// The caller of that name.
    #[must_use]
    pub fn new(name: &str, rights: Rights) -> Self {
        Self { name: name.to_owned(), rights }
    }

    /// The caller who has this key and no name.
    pub(super) fn of_key(key: &str) -> Self {
        let digest: String = Secret::new(key).digest().chars().take(DIGEST).collect();
        Self { name: digest, rights: Rights::default() }
    }

    /// Its name, or the beginning of its key's digest.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may use.
    #[must_use]
    pub fn rights(&self) -> &Rights {
        &self.rights
    }
}

/// A line of the secret `etl-oauth-invoke`: the key, and the words behind it that say whose it is
/// (`KEY name=reports allow=google/*,slack/ada`). `None` where a word is not right: a slip must not open everything.
pub(super) fn line(text: &str) -> Option<(&str, Identity)> {
    let (mut key, mut name, mut rights) = (text.trim(), None, None);
    while let Some((before, word)) = key.rsplit_once(char::is_whitespace) {
        match word.split_once('=') {
            Some(("name", value)) if name.is_none() && !value.is_empty() => name = Some(value),
            Some(("allow", value)) if rights.is_none() => rights = Some(Rights::parse(value)?),
            Some(("name" | "allow", _)) => return None,
            // A key may have spaces in it, as it always could.
            _ => break,
        }
        key = before.trim_end();
    }
    let mut identity = Identity::of_key(key);
    if let Some(name) = name {
        name.clone_into(&mut identity.name);
    }
    identity.rights = rights.unwrap_or_default();
    (!key.is_empty()).then_some((key, identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_key_and_words_and_a_slip_in_them_is_no_key_for_everything() {
        let (key, caller) = line("s3cret name=reports allow=google/*,slack/ada").unwrap();
        assert_eq!((key, caller.name()), ("s3cret", "reports"));
        assert!(caller.rights().allow("google", "x") && caller.rights().allow("slack", "ada"));
        assert!(!caller.rights().allow("slack", "grace") && !caller.rights().allow("default", "default"));
        let (key, caller) = line("a key with spaces").unwrap();
        assert_eq!((key, caller.name().len()), ("a key with spaces", 8));
        assert!(caller.rights().allow("any", "one"));
        assert!(!line("k allow=").unwrap().1.rights().allow("a", "b"), "an empty list is no account");
        for wrong in [
            "k allow=google",
            "k allow=google/A",
            "k allow=*/x",
            "k name=",
            "k name=a name=b",
            "k allow=a/b allow=c/d",
            "",
        ] {
            assert!(line(wrong).is_none(), "{wrong}");
        }
    }
}
