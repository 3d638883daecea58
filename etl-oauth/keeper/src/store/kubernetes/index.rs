//! What is due, from the annotations of the Secrets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::api::{ListParams, ObjectMeta};
use serde::{Deserialize, Serialize};

use super::{Inner, bytes_of};
use crate::store::{Kind, Meta, StoreError, index::Index};

/// The annotation of a Secret that has a value.
pub(super) const ENTRY: &str = "etl-oauth/entry";
/// How many values of a kind a namespace is to hold: the metadata of all of them is read whenever what is due is asked for.
const LARGEST: usize = 2000;
/// How many Secrets come with one answer.
const PAGE: u32 = 500;

#[derive(Serialize, Deserialize)]
struct Entry {
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    due: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    tag: Option<String>,
}

/// The index entry as an annotation.
pub(super) fn annotations(meta: &Meta) -> BTreeMap<String, String> {
    let entry = Entry { generation: meta.generation, due: meta.due_at, tag: meta.tag.clone() };
    BTreeMap::from([(ENTRY.to_owned(), serde_json::to_string(&entry).unwrap_or_default())])
}

/// The index entry in an annotation, where there is one.
pub(super) fn entry(metadata: &ObjectMeta) -> Option<Meta> {
    let Entry { generation, due, tag } = serde_json::from_str(metadata.annotations.as_ref()?.get(ENTRY)?).ok()?;
    Some(Meta { generation, due_at: due, tag })
}

impl Inner {
    /// The index of a kind as the Secrets are now.
    pub(super) async fn index(&self, kind: Kind) -> Result<Index, StoreError> {
        let mut index = Index::default();
        if let Some(keys) = self.named_keys(kind).await? {
            for key in keys {
                let Some(secret) = self.get(&self.name(&key)).await? else { continue };
                if bytes_of(&secret).is_some() {
                    index.set(&key, &entry(&secret.metadata).unwrap_or_default());
                }
            }
            return Ok(index);
        }
        let mut params = ListParams::default().labels(&self.selector(kind)).limit(PAGE);
        loop {
            let list = self.ask("list Secrets", self.secrets.list_metadata(&params)).await?;
            for metadata in list.items.iter().map(|secret| &secret.metadata) {
                let Some(key) = metadata.name.as_deref().and_then(|name| self.key(kind, name)) else { continue };
                let entry = entry(metadata);
                // Without an entry it is empty, or was written by version 0.1.
                if entry.is_some() || self.get(&self.name(&key)).await?.is_some_and(|it| bytes_of(&it).is_some()) {
                    index.set(&key, &entry.unwrap_or_default());
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(index),
            }
        }
    }

    /// Refuses one value more than a namespace is to hold.
    pub(super) async fn check_room(&self, kind: Kind) -> Result<(), StoreError> {
        // Rights that name Secrets bound their number.
        if self.named_keys(kind).await?.is_some() {
            return Ok(());
        }
        let mut params = ListParams::default().labels(&self.selector(kind)).limit(PAGE);
        let mut there = 0;
        loop {
            let list = self.ask("list Secrets", self.secrets.list_metadata(&params)).await?;
            there += list.items.len();
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        if there < LARGEST {
            return Ok(());
        }
        Err(StoreError::refused(format!(
            "the namespace {} holds {there} Secrets of this function, and store=kubernetes is made for {LARGEST}: choose \
             postgres or nats for more accounts",
            self.namespace
        )))
    }
}
