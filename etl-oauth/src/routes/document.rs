//! Values of the function's own in its store, as JSON.

use serde::{Serialize, de::DeserializeOwned};

use token_keeper::store::{self, Bytes, Cell as _, Key, KeyCell, Meta, Store, StoreError, Updated};

/// The value of one key, as JSON.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub(super) store: &'a Store,
    pub(super) key: &'a Key,
}

impl Document<'_> {
    fn cell(&self) -> KeyCell<'_, Store> {
        KeyCell { store: self.store, key: self.key }
    }

    /// Reads it; the default where there is none.
    ///
    /// # Errors
    /// When the store fails, or holds something else there.
    pub(super) async fn read<T: DeserializeOwned + Default>(&self) -> Result<T, StoreError> {
        match self.cell().load().await? {
            Some(((bytes, _), _)) => self.parse(&bytes),
            None => Ok(T::default()),
        }
    }

    /// Writes what `change` makes of it, and again where another writer was faster; gives what is stored then.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub(super) async fn update<T: Serialize + DeserializeOwned + Default>(
        &self,
        mut change: impl FnMut(&mut T) + Send,
    ) -> Result<T, StoreError> {
        let cell = self.cell();
        let updated = store::update(&cell, |there: Option<&(Bytes, Meta)>| {
            let mut value: T = there.map_or_else(|| Ok(T::default()), |(bytes, _)| self.parse(bytes))?;
            change(&mut value);
            let json = serde_json::to_vec(&value).map_err(|err| StoreError::refused(err.to_string()).because(err))?;
            let generation = there.map_or(0, |(_, meta)| meta.generation) + 1;
            Ok(Some((Bytes::new(json), Meta { generation, ..Meta::default() })))
        });
        match updated.await? {
            Updated::Written { now: (bytes, _), .. } => self.parse(&bytes),
            Updated::Left(_) => Ok(T::default()),
        }
    }

    fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, StoreError> {
        let key = self.key;
        serde_json::from_slice(bytes)
            .map_err(|err| StoreError::refused(format!("what is stored at {key} cannot be read")).because(err))
    }
}
