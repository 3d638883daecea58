//! Connect links as they are stored, and what is stored beside them.

use std::{marker::PhantomData, sync::Arc};

use aws_lc_rs::{constant_time, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use token_keeper::store::{
    self, ByteStore, Bytes, Cell, DEFAULT_CONNECTION, Key, KeyCell, Kind, Meta, Scan, Store, StoreError, Updated,
    Version,
};

/// Of a link's token: as many bits as an AES key has.
const BYTES: usize = 16;
/// How long an id is, which is the beginning of the token's digest in hexadecimal digits.
const ID: usize = 32;
/// The kind of what is stored here.
const LINK: Kind = Kind::named("link");
/// How many links are read at a time.
const PAGE: usize = 500;

/// A link that lets one person authorise one account once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::routes) struct Link {
    pub(super) id: String,
    /// SHA-256 of the token.
    digest: String,
    pub(super) connection: String,
    pub(super) account: String,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
    /// Who made it: `operator`, `caller:NAME`, or `notice` for one that was sent to the owner.
    pub(super) by: String,
    #[serde(flatten)]
    pub(super) terms: Terms,
    pub(super) state: LinkState,
}

/// What the maker of a link wants besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Terms {
    /// The person who is expected: a verified address, or the identifier at the provider.
    pub(super) expect: Option<String>,
    /// Where the owner gets a fresh link when the account needs one.
    pub(super) notify: Option<String>,
    /// Where the last page leads.
    pub(super) return_url: Option<String>,
}

/// How a link stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LinkState {
    /// Good until its end.
    Open,
    /// Used up, by this person where the provider said who it was.
    Used { at: Timestamp, who: Option<String> },
    /// Ended by the operator, or with the account.
    Ended { at: Timestamp },
}

/// What the owner of an account was promised by the link that connected it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) terms: Terms,
    /// The change of state that the owner was notified of last.
    pub(super) told: Option<Timestamp>,
}

/// Another person's grant, which waits for the operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) connection: String,
    pub(super) account: String,
    pub(super) link: String,
    pub(super) who: Option<String>,
    pub(super) at: Timestamp,
    pub(super) ends_at: Timestamp,
    /// The record, in base64.
    pub(super) record: String,
}

impl Link {
    /// A new link, and its token.
    pub(super) fn new(
        (connection, account): (&str, &str),
        by: String,
        terms: Terms,
        created_at: Timestamp,
        expires_at: Timestamp,
    ) -> Option<(Self, String)> {
        let mut bytes = [0; BYTES];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let digest = hash(&token);
        let link = Self {
            id: digest[..ID].to_owned(),
            digest,
            connection: connection.to_owned(),
            account: account.to_owned(),
            created_at,
            expires_at,
            by,
            terms,
            state: LinkState::Open,
        };
        Some((link, token))
    }

    /// Whether it can still be used.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        self.state == LinkState::Open && now < self.expires_at
    }

    /// Whether `token` is this link's, in a time that tells nothing.
    fn is(&self, token: &str) -> bool {
        constant_time::verify_slices_are_equal(hash(token).as_bytes(), self.digest.as_bytes()).is_ok()
    }
}

fn hash(text: &str) -> String {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of what is stored for an account.
fn of_account(kind: char, connection: &str, account: &str) -> String {
    format!("{kind}-{}", &hash(&format!("{connection}/{account}"))[..32])
}

/// Links, promises to owners and held grants, in a space of the store beside the tokens.
#[derive(Clone, Debug)]
pub(in crate::routes) struct Links(Arc<Store>);

impl Links {
    /// Over `store`, where it can be read back; else in the memory of this process.
    pub(in crate::routes) fn new(store: &Arc<Store>) -> Self {
        let can = store.capabilities();
        let kept = can.read_back && can.compare_and_swap && can.accounts;
        Self(if kept { Arc::clone(store) } else { Arc::new(Store::Memory(store::Memory::default())) })
    }

    /// Writes every link anew, sealed with the key that is now the first.
    pub(in crate::routes) async fn reseal(&self) -> Result<usize, StoreError> {
        self.0.reseal(LINK).await
    }

    async fn read<T: Serialize + DeserializeOwned + Send + Sync>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let key = Key::new(LINK, DEFAULT_CONNECTION, name)?;
        let cell = JsonCell::<T>(KeyCell { store: &self.0, key: &key }, PhantomData);
        Ok(cell.load().await?.and_then(|(value, _)| value))
    }

    /// Writes what `change` makes of what is stored, and again where another writer was faster; `None` leaves it. Gives what
    /// was written.
    async fn change<T: Serialize + DeserializeOwned + Clone + Send + Sync>(
        &self,
        name: &str,
        mut change: impl FnMut(Option<T>) -> Option<Option<T>> + Send,
    ) -> Result<Option<T>, StoreError> {
        let key = Key::new(LINK, DEFAULT_CONNECTION, name)?;
        let cell = JsonCell::<T>(KeyCell { store: &self.0, key: &key }, PhantomData);
        match store::update(&cell, |there| Ok(change(there.cloned().flatten()))).await? {
            Updated::Written { now, .. } => Ok(now),
            Updated::Left(_) => Ok(None),
        }
    }

    /// All values whose names begin so.
    async fn all_of<T: Serialize + DeserializeOwned + Send + Sync>(&self, prefix: &str) -> Result<Vec<T>, StoreError> {
        let (mut all, mut scan) = (Vec::new(), Scan::of(LINK, PAGE));
        prefix.clone_into(&mut scan.prefix);
        loop {
            let page = self.0.list(&scan).await?;
            for key in &page.keys {
                all.extend(self.read::<T>(key.name()).await?);
            }
            if page.next.is_none() {
                return Ok(all);
            }
            scan.after = page.next;
        }
    }

    pub(super) async fn add(&self, link: &Link) -> Result<(), StoreError> {
        let new = link.clone();
        self.change(&format!("l-{}", link.id), |_| Some(Some(new.clone()))).await.map(drop)
    }

    /// The link of that token, however it stands.
    pub(super) async fn find(&self, token: &str) -> Result<Option<Link>, StoreError> {
        // Anything else is no token of ours: it costs no read of the store.
        if URL_SAFE_NO_PAD.decode(token).map_or(0, |bytes| bytes.len()) != BYTES {
            return Ok(None);
        }
        Ok(self.by_id(&hash(token)[..32]).await?.filter(|link| link.is(token)))
    }

    pub(super) async fn by_id(&self, id: &str) -> Result<Option<Link>, StoreError> {
        self.read(&format!("l-{id}")).await
    }

    /// Uses a link up: one of all who try does, and it was open or its flow began before its end.
    pub(super) async fn use_up(&self, id: &str, who: Option<&str>, now: Timestamp) -> Result<bool, StoreError> {
        let used = |link: Option<Link>| {
            let link = link.filter(|link| link.state == LinkState::Open)?;
            Some(Some(Link { state: LinkState::Used { at: now, who: who.map(str::to_owned) }, ..link }))
        };
        Ok(self.change(&format!("l-{id}"), used).await?.is_some())
    }

    /// Ends an open link.
    pub(super) async fn end(&self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        // Anything else is no name of a record either.
        if id.len() != ID || !id.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()) {
            return Ok(false);
        }
        let ended = |link: Option<Link>| {
            let link = link.filter(|link| link.state == LinkState::Open)?;
            Some(Some(Link { state: LinkState::Ended { at: now }, ..link }))
        };
        Ok(self.change(&format!("l-{id}"), ended).await?.is_some())
    }

    /// All links, in the order of their ids.
    pub(super) async fn all(&self) -> Result<Vec<Link>, StoreError> {
        self.all_of("l-").await
    }

    /// Ends an account's links and what its owner was promised: the account was revoked.
    pub(in crate::routes) async fn end_all(
        &self,
        connection: &str,
        account: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for link in self.all().await? {
            if link.connection == connection && link.account == account {
                self.end(&link.id, now).await?;
            }
        }
        self.set_owner(connection, account, None).await?;
        self.take_held(connection, account).await.map(drop)
    }

    /// Ends all links, of one connection or of all: every account is revoked.
    pub(in crate::routes) async fn end_every(
        &self,
        connection: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for link in self.all().await? {
            if connection.is_none_or(|only| only == link.connection) {
                self.end(&link.id, now).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn owner(&self, connection: &str, account: &str) -> Result<Option<Owner>, StoreError> {
        self.read(&of_account('o', connection, account)).await
    }

    pub(super) async fn set_owner(
        &self,
        connection: &str,
        account: &str,
        owner: Option<&Owner>,
    ) -> Result<(), StoreError> {
        let change = |there: Option<Owner>| (there.is_some() || owner.is_some()).then(|| owner.cloned());
        self.change(&of_account('o', connection, account), change).await.map(drop)
    }

    pub(super) async fn hold(&self, held: &Held) -> Result<(), StoreError> {
        let name = of_account('h', &held.connection, &held.account);
        self.change(&name, |_| Some(Some(held.clone()))).await.map(drop)
    }

    /// Takes a held grant away, for the one who decides over it.
    pub(super) async fn take_held(&self, connection: &str, account: &str) -> Result<Option<Held>, StoreError> {
        let name = of_account('h', connection, account);
        let mut taken = None;
        self.change::<Held>(&name, |there| {
            taken = there;
            taken.is_some().then_some(None)
        })
        .await?;
        Ok(taken)
    }

    /// The grants that wait, those whose time is over left out.
    pub(super) async fn held(&self, now: Timestamp) -> Result<Vec<Held>, StoreError> {
        Ok(self.all_of::<Held>("h-").await?.into_iter().filter(|held| now < held.ends_at).collect())
    }
}

/// A value as JSON; `null` for one that was taken away.
struct JsonCell<'a, T>(KeyCell<'a, Store>, PhantomData<T>);

impl<T: Serialize + DeserializeOwned + Send + Sync> Cell for JsonCell<'_, T> {
    type Value = Option<T>;

    async fn load(&self) -> Result<Option<(Option<T>, Version)>, StoreError> {
        let Some(((bytes, _), version)) = self.0.load().await? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some((value, version))),
            Err(_) => Err(StoreError::Corrupt("a stored link is damaged".into())),
        }
    }

    async fn save(&self, value: &Option<T>, was: Option<&Version>) -> Result<Version, StoreError> {
        let json = serde_json::to_vec(value).map_err(|err| StoreError::refused(err.to_string()))?;
        self.0.save(&(Bytes::new(json), Meta { tag: Some("link".into()), ..Meta::default() }), was).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Memory;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn a_link_is_found_by_its_token_alone_and_used_up_once() {
        let links = Links::new(&Arc::new(Store::Memory(Memory::default())));
        let (link, token) = Link::new(("google", "ada"), "operator".into(), Terms::default(), at(0), at(60)).unwrap();
        links.add(&link).await.unwrap();
        assert_eq!(token.len(), 22, "128 bits");
        assert_eq!(links.find(&token).await.unwrap().unwrap().account, "ada");
        for other in ["", "A", &token[..21], "AAAAAAAAAAAAAAAAAAAAAA", &format!("{token}A"), &link.id, &link.digest] {
            assert!(links.find(other).await.unwrap().is_none(), "{other}");
        }
        let both = tokio::join!(links.use_up(&link.id, Some("7"), at(1)), links.use_up(&link.id, Some("8"), at(1)));
        assert_ne!(both.0.unwrap(), both.1.unwrap());
        let used = links.find(&token).await.unwrap().unwrap();
        assert!(!used.is_open(at(2)) && !links.end(&link.id, at(2)).await.unwrap());
        // What is stored does not hold the token.
        let stored = serde_json::to_string(&links.by_id(&link.id).await.unwrap()).unwrap();
        assert!(!stored.contains(&token));
    }

    #[tokio::test]
    async fn a_revocation_ends_the_accounts_links_and_no_others() {
        let links = Links::new(&Arc::new(Store::Memory(Memory::default())));
        let mut made = Vec::new();
        for account in ["ada", "ada", "grace"] {
            let terms = Terms { notify: Some("https://n.example/".into()), ..Terms::default() };
            let (link, _) = Link::new(("google", account), "operator".into(), terms.clone(), at(0), at(60)).unwrap();
            links.add(&link).await.unwrap();
            links.set_owner("google", account, Some(&Owner { terms, told: None })).await.unwrap();
            made.push(link.id);
        }
        links.end_all("google", "ada", at(1)).await.unwrap();
        let mut open = Vec::new();
        for id in &made {
            open.push(links.by_id(id).await.unwrap().unwrap().is_open(at(1)));
        }
        assert_eq!(open, [false, false, true]);
        assert!(links.owner("google", "ada").await.unwrap().is_none());
        assert!(links.owner("google", "grace").await.unwrap().is_some());
    }
}
