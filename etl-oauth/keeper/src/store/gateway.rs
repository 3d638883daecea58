mod state;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use state::Held;

use super::{
    Acquired, ByteStore, Bytes, Capabilities, Codec, Due, GatewayApi, Key, Kind, Meta, Page, Scan, StoreError,
    StoreOptions, Value, Version, index::Index, mounted_secret::MountedSecret,
};
use crate::{
    secrets::Secrets,
    token::{Record, Secret},
};

const ACCESS: &str = "oauth2-access-token";
const REFRESH: &str = "oauth2-refresh-token";
const RECORD: &str = "oauth2-token";
/// What a token secret holds while there is no token: OpenFaaS has no empty secrets.
const EMPTY: &str = "empty";
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOKS: u32 = 50;

/// Which secrets hold the tokens: those that the function lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `oauth2-access-token` and `oauth2-refresh-token`, each the bare token: other functions read them as they are. Two
    /// writes, the refresh token's first: it is the one that cannot be had again.
    Pair,
    /// `oauth2-token`, the whole record as JSON: one write, so that no crash parts the two, and lifetimes, scope and
    /// failures survive a restart. Sealed where the secret `etl-oauth-seal-keys` is mounted.
    Record,
}

/// The one-replica store: writes through the gateway's REST API, reads the mounted secrets.
///
/// It holds one token record, the default one, and is the one store that looks into it: other functions read the bare tokens
/// of [`Layout::Pair`]. The API never shows a value, knows no versions and has no leases. So this process's memory is the record, the mounted
/// files are read when it starts and when somebody else has changed them, and a second replica would not be noticed.
#[derive(Debug)]
pub struct Gateway {
    api: GatewayApi,
    secrets: Secrets,
    codec: Codec,
    layout: Layout,
    held: Mutex<Held>,
    writing: tokio::sync::Mutex<()>,
}

impl Gateway {
    /// The store over `api`; the layout is the one whose secrets are mounted, [`Layout::Record`] where both are.
    #[must_use]
    pub fn new(api: GatewayApi, secrets: Secrets, codec: Codec) -> Self {
        let layout = if secrets.is_mounted(RECORD) { Layout::Record } else { Layout::Pair };
        Self { api, secrets, codec, layout, held: Mutex::default(), writing: tokio::sync::Mutex::default() }
    }

    /// The store of this configuration.
    ///
    /// # Errors
    /// [`StoreError::Config`] without the gateway's address, or when the seal keys are damaged.
    pub fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let Some(url) = &options.gateway_url else {
            return Err(StoreError::Config("store=gateway needs gateway_url: the gateway's address".into()));
        };
        let api = GatewayApi::new(url, options.secrets.clone())
            .map_err(|_| StoreError::Config("the TLS library does not start".into()))?;
        let codec = Codec::optional(&options.function, options.secrets.clone())?;
        Ok(Self::new(api, options.secrets.clone(), codec))
    }

    /// The layout in use.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The names of the secrets that the function must list, besides `basic-auth-password`.
    #[must_use]
    pub fn secret_names(&self) -> &'static [&'static str] {
        match self.layout {
            Layout::Pair => &[ACCESS, REFRESH],
            Layout::Record => &[RECORD],
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the files of this layout show now: one value a secret, `None` for one that is missing, or empty because
    /// faasd is rewriting it.
    fn look(&self) -> Result<Vec<Option<Secret>>, StoreError> {
        let read =
            |name: &&str| self.secrets.read(name).map_err(|err| StoreError::unavailable(err.to_string()).because(err));
        let values = self.secret_names().iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(values.into_iter().map(|value| value.filter(|value| !value.expose().is_empty())).collect())
    }

    /// Follows the mounted files. faasd truncates a file and writes it anew in place, so a value that we do not know
    /// counts only when a second look, a moment later, shows the same.
    async fn follow(&self) -> Result<(), StoreError> {
        let mut seen = self.look()?;
        for _ in 0..LOOKS {
            if self.held().knows(&seen) {
                return self.held().see(&seen, &self.codec);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            let again = self.look()?;
            let digests = |values: &[Option<Secret>]| -> Vec<_> {
                values.iter().map(|value| value.as_ref().map(Secret::digest)).collect()
            };
            if digests(&seen) == digests(&again) {
                return self.held().see(&again, &self.codec);
            }
            seen = again;
        }
        Err(StoreError::Unavailable("the mounted token secrets keep changing".into()))
    }

    /// Takes note of a mounted record that cannot be read: what is written now takes its place, and the mounted file goes on
    /// showing it for a while.
    fn pass_over_damage(&self) -> Result<(), StoreError> {
        if let (Layout::Record, [Some(value)]) = (self.layout, &self.look()?[..])
            && value.expose() != EMPTY
            && state::decode(&self.codec, value).is_err()
        {
            let mut held = self.held();
            held.mounted.resize_with(1, MountedSecret::default);
            held.mounted[0].look(value);
        }
        Ok(())
    }

    /// The index of the one record, as this process knows it.
    fn index(&self) -> Index {
        let mut index = Index::default();
        index.set(&Key::default(), &self.held().meta);
        index
    }

    async fn write(&self, name: &'static str, value: &Secret) -> Result<(), StoreError> {
        self.api.put(&self.secrets.name(name), value).await
    }
}

impl ByteStore for Gateway {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: false, compare_and_swap: false, lease: false, accounts: false, index: false }
    }

    async fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        only_default(key)?;
        if let Err(err) = self.follow().await {
            let version = Version::new(self.held().version);
            return Err(err.at(version));
        }
        let held = self.held();
        let meta = Meta { generation: held.record.generation, ..held.meta.clone() };
        Ok(Some(Value { bytes: held.record.to_json(), version: Version::new(held.version), meta }))
    }

    async fn put(&self, key: &Key, bytes: &[u8], meta: &Meta, was: Option<&Version>) -> Result<Version, StoreError> {
        only_default(key)?;
        let record = Record::from_json(bytes).map_err(state::corrupt)?;
        let _one_at_a_time = self.writing.lock().await;
        if was != Some(&Version::new(self.held().version)) {
            return Err(StoreError::Conflict);
        }
        self.pass_over_damage()?;
        let values: Vec<Secret> = match self.layout {
            Layout::Pair => {
                let tokens = record.tokens.as_ref();
                let or_empty = |value: Option<&Secret>| {
                    value.filter(|value| !value.expose().is_empty()).cloned().unwrap_or_else(|| Secret::new(EMPTY))
                };
                let access = or_empty(tokens.map(|tokens| &tokens.access_token));
                let refresh = or_empty(tokens.and_then(|tokens| tokens.refresh_token.as_ref()));
                vec![access, refresh]
            }
            Layout::Record => {
                let text: Bytes = self.codec.encode(key, meta.generation, bytes)?;
                vec![Secret::new(std::str::from_utf8(&text).unwrap_or_default())]
            }
        };
        // From the last to the first: the refresh token before the access token.
        for (index, (name, value)) in self.secret_names().iter().zip(&values).enumerate().rev() {
            if self.held().mounted.get(index).is_some_and(|mounted| mounted.is_ours(value)) {
                continue;
            }
            self.write(name, value).await?;
            let mut held = self.held();
            if held.mounted.len() < values.len() {
                held.mounted.resize_with(values.len(), MountedSecret::default);
            }
            held.mounted[index].wrote(value);
            if let Some(damaged) = held.damaged.take() {
                held.mounted[index].replaces(damaged);
            }
        }
        let mut held = self.held();
        (held.record, held.meta) = (record, meta.clone());
        held.version += 1;
        Ok(Version::new(held.version))
    }

    async fn delete(&self, key: &Key, was: &Version) -> Result<(), StoreError> {
        let empty = Record::default().to_json();
        self.put(key, &empty, &Meta::default(), Some(was)).await.map(drop)
    }

    async fn list(&self, scan: &Scan) -> Result<Page, StoreError> {
        Ok(self.index().list(scan))
    }

    async fn counts(&self, kind: Kind, connection: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
        Ok(self.index().counts(kind, connection))
    }

    async fn due(&self, kind: Kind, connection: &str, before: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        Ok(self.index().due(kind, connection, before, limit))
    }

    async fn acquire(&self, _key: &Key, _owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        // There is one replica, and its keeper makes one renewal at a time.
        Ok(Acquired::Until(now.checked_add(ttl).unwrap_or(Timestamp::MAX)))
    }

    async fn release(&self, _key: &Key, _owner: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

fn only_default(key: &Key) -> Result<(), StoreError> {
    if *key == Key::default() {
        return Ok(());
    }
    Err(StoreError::refused("the gateway store holds one account only; choose another store for more"))
}

#[cfg(test)]
mod tests;
