use super::{ByteStore, Bytes, Key, Meta, StoreError, Version};

/// A place in a store whose contents are replaced by compare-and-swap.
pub trait Cell: Sync {
    /// The contents.
    type Value: Send;

    /// Reads it; `None` where there is nothing.
    fn load(&self) -> impl Future<Output = Result<Option<(Self::Value, Version)>, StoreError>> + Send;

    /// Writes it over the version `was`; else [`StoreError::Conflict`].
    fn save(
        &self,
        value: &Self::Value,
        was: Option<&Version>,
    ) -> impl Future<Output = Result<Version, StoreError>> + Send;
}

/// What an update came to.
#[derive(Debug)]
pub enum Updated<T> {
    /// Nothing was to be changed; what is there.
    Left(Option<(T, Version)>),
    /// Written.
    Written {
        /// What was there before.
        before: Option<T>,
        /// What is there now.
        now: T,
        /// Its version.
        version: Version,
    },
}

/// Writes what `change` makes of the contents, and again where another writer was faster. `None` leaves them.
///
/// # Errors
/// The store's, and those of `change`.
pub async fn update<C: Cell>(
    cell: &C,
    mut change: impl FnMut(Option<&C::Value>) -> Result<Option<C::Value>, StoreError> + Send,
) -> Result<Updated<C::Value>, StoreError> {
    loop {
        let there = cell.load().await?;
        let Some(now) = change(there.as_ref().map(|(value, _)| value))? else {
            return Ok(Updated::Left(there));
        };
        let (before, was) = there.unzip();
        match cell.save(&now, was.as_ref()).await {
            Ok(version) => return Ok(Updated::Written { before, now, version }),
            Err(StoreError::Conflict) => {}
            Err(err) => return Err(err),
        }
    }
}

/// The value of one key.
#[derive(Debug)]
pub struct KeyCell<'a, S> {
    /// The store.
    pub store: &'a S,
    /// The key.
    pub key: &'a Key,
}

impl<S: ByteStore> Cell for KeyCell<'_, S> {
    type Value = (Bytes, Meta);

    async fn load(&self) -> Result<Option<(Self::Value, Version)>, StoreError> {
        Ok(self.store.get(self.key).await?.map(|there| ((there.bytes, there.meta), there.version)))
    }

    async fn save(&self, (bytes, meta): &Self::Value, was: Option<&Version>) -> Result<Version, StoreError> {
        self.store.put(self.key, bytes, meta, was).await
    }
}
