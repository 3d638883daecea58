use std::time::Duration;

use super::{Mistakes, default_gateway, gateway_url, misspelt::misspelt, parse::Strings, store_options};
use token_keeper::{
    secrets::Secrets,
    store::{Store, StoreOptions},
};

/// The configuration of a function that shows another one's record: no provider, no client, no token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Retriever {
    /// The function whose job wrote the record.
    pub record_of: String,
    /// That function's store.
    pub store: String,
    /// What the store needs to know.
    pub store_options: StoreOptions,
    /// How long a cache may keep it.
    pub max_age: Duration,
}

impl Retriever {
    /// Reads the variables that `get` knows; `None` without `record_of`.
    ///
    /// # Errors
    /// [`Mistakes`], all at once.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Mistakes> {
        Self::of(&mut Strings::new(&get), [])
    }

    /// Reads the variables of this process's environment. A variable whose name is nearly that of one of ours is a mistake
    /// as well.
    ///
    /// # Errors
    /// [`Mistakes`], all at once.
    pub fn of_environment() -> Result<Option<Self>, Mistakes> {
        let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self::of(&mut Strings::new(&|name| std::env::var(name).ok()), set)
    }

    fn of(strings: &mut Strings<'_>, set: impl IntoIterator<Item = String>) -> Result<Option<Self>, Mistakes> {
        let Some(record_of) = strings.text("record_of") else { return Ok(None) };
        let secrets = Secrets::new(
            strings.text("secret_mount_path").unwrap_or_else(|| Secrets::FOLDER.into()),
            strings.text("secret_prefix").unwrap_or_default(),
        );
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !record_of.bytes().all(plain) {
            strings.mistake("record_of is no function's name: it has lower-case letters, digits and `-`".into());
        }
        strings.choice("job", &[("strava", ())]);
        let store = strings.choice("store", &Store::KINDS.map(|kind| (kind, kind))).unwrap_or("gateway").to_owned();
        let max_age = strings.duration("max_age").unwrap_or(Duration::from_secs(300));
        let gateway = strings.parsed("gateway_url", gateway_url).unwrap_or_else(default_gateway);
        let store_options = store_options(strings, &secrets, None, Some(gateway));
        misspelt(set, strings.known()).into_iter().for_each(|line| strings.mistake(line));
        let mistakes = strings.take_mistakes();
        if mistakes.is_empty() {
            Ok(Some(Self { record_of, store, store_options, max_age }))
        } else {
            Err(Mistakes(mistakes))
        }
    }
}
