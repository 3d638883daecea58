//! Values as sealed files of one host.

mod disk;
mod index;
mod lease;

use std::{
    collections::{BTreeMap, HashMap},
    fs::{DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use self::{
    disk::{check_folder, ephemeral, failed, lock_file, version, write_synced},
    index::{FolderIndex, read},
    lease::Lease,
};
use super::{
    Acquired, ByteStore, Capabilities, Codec, Due, Key, Kind, Meta, Page, Scan, StoreError, StoreOptions, Value,
    Version,
    entry::{entry, with_entry},
    index::Index,
};

/// How long a write waits for the writes of other processes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sealed files in one folder, for the processes of one host: `NAME.json` ([`Key::path`]), and beside it `.NAME.lease` and
/// `.NAME.lock`, which are empty and only ever locked. Kinds other than tokens have a folder of their own in it,
/// `FUNCTION.KIND`.
///
/// A value is written to a new file, that is synced, takes the old one's name, and then the folder is synced: a crash or
/// a full disk leaves the old value. The version is the digest of the file, so that a file put back from a backup is a
/// change like any other.
///
/// A lease is an `flock` that this process holds, so it ends with the process, however that ends. One that stops
/// (`SIGSTOP`, a debugger) keeps it: its request to the provider may be under way. A holder that runs and falls silent loses
/// it after `ttl`.
///
/// The index is in memory. It is read from the files at its first use, and what has changed since whenever the folder has.
#[derive(Clone, Debug)]
pub struct Files(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    codec: Codec,
    leases: Mutex<HashMap<Key, Lease>>,
    indexes: Mutex<BTreeMap<Kind, FolderIndex>>,
}

impl Files {
    /// The store in the folder `store_path`, which is made where its parent exists.
    ///
    /// # Errors
    /// [`StoreError::Config`] when there is no such folder and it cannot be made, when it would not outlive a restart though
    /// the provider rotates, or when there are no keys to seal with.
    pub fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let Some(folder) = &options.path else {
            return Err(StoreError::config("store=file needs store_path: a folder on a disk that survives"));
        };
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
                let what = format!("store_path={} cannot be made: {err}", folder.display());
                return Err(StoreError::config(what).because(err));
            }
            _ if !folder.is_dir() => {
                return Err(StoreError::config(format!("store_path={} is not a folder", folder.display())));
            }
            _ => {}
        }
        check_folder(folder)?;
        if options.rotates
            && !options.allow_ephemeral
            && let Some(kind) = ephemeral(folder)?
        {
            return Err(StoreError::config(format!(
                "store_path={} is on {kind}, which a restart may empty, and this provider's refresh tokens are good for one \
                 use: mount a disk there, choose another store, or set allow_ephemeral_store=true",
                folder.display()
            )));
        }
        let codec = Codec::sealed(&options.function, options.secrets.clone())?;
        Ok(Self(Arc::new(Inner { folder: folder.clone(), codec, leases: Mutex::default(), indexes: Mutex::default() })))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        let joined = tokio::task::spawn_blocking(move || work(&inner)).await;
        joined.unwrap_or_else(|_| Err(StoreError::unavailable("the function is stopping")))
    }
}

impl Inner {
    fn leases(&self) -> MutexGuard<'_, HashMap<Key, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, kind: Kind) -> PathBuf {
        if kind == Kind::TOKEN { self.folder.clone() } else { self.folder.join(kind.space(self.codec.function())) }
    }

    fn file(&self, key: &Key) -> PathBuf {
        self.folder(key.kind()).join(format!("{}.json", key.path()))
    }

    /// The file `.NAME.ENDING`, whose folder is made where it is missing.
    fn beside(&self, key: &Key, ending: &str) -> Result<PathBuf, StoreError> {
        let folder = self.folder(key.kind());
        if key.kind() != Kind::TOKEN && self.folder.is_dir() {
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&folder, &err)),
                _ => check_folder(&folder)?,
            }
        }
        Ok(folder.join(format!(".{}.{ending}", key.path())))
    }

    fn read(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.file(key);
        match read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(err) if err.kind() == io::ErrorKind::NotFound && self.folder.is_dir() => Ok(None),
            Err(err) => Err(failed(&path, &err)),
        }
    }

    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        let Some(file) = self.read(key)? else { return Ok(None) };
        let version = version(&file);
        match self.codec.decode(key, &file) {
            Ok((generation, bytes)) => Ok(Some(Value { bytes, version, meta: Meta { generation, ..entry(&file) } })),
            Err(err) => Err(err.at(version)),
        }
    }

    /// Compares and changes, while no other process does.
    fn change<T>(
        &self,
        key: &Key,
        was: Option<&Version>,
        change: impl FnOnce(&Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _one_writer = self.lock(key)?;
        if self.read(key)?.as_deref().map(version).as_ref() != was {
            return Err(StoreError::Conflict);
        }
        let changed = change(&self.file(key))?;
        let folder = self.folder(key.kind());
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(|err| failed(&folder, &err))?;
        Ok(changed)
    }

    fn put(&self, key: &Key, bytes: &[u8], was: Option<&Version>) -> Result<Version, StoreError> {
        self.change(key, was, |path| {
            let new = self.beside(key, "new")?;
            write_synced(&new, bytes).and_then(|()| std::fs::rename(&new, path)).map_err(|err| {
                // What is left of it is truncated by the next write at the latest.
                let _ = std::fs::remove_file(&new);
                failed(&new, &err)
            })?;
            Ok(version(bytes))
        })
    }

    /// A key's own: a write waits for a disk, and no other key's need wait with it.
    fn lock(&self, key: &Key) -> Result<File, StoreError> {
        let path = self.beside(key, "lock")?;
        let lock = lock_file(&path)?;
        let start = std::time::Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                // A process that was stopped in the middle of a write must not hang this one.
                Err(TryLockError::WouldBlock) if start.elapsed() > PATIENCE => {
                    return Err(StoreError::unavailable(format!("another process keeps {} locked", path.display())));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
                Err(TryLockError::Error(err)) => return Err(failed(&path, &err)),
            }
        }
    }

    /// Asks the index of a kind, after it was brought up to date.
    fn ask<T>(&self, kind: Kind, question: impl FnOnce(&Index) -> T) -> Result<T, StoreError> {
        let folder = self.folder(kind);
        // A lost folder is not an empty one.
        std::fs::metadata(&self.folder).map_err(|err| failed(&self.folder, &err))?;
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        let index = indexes.entry(kind).or_default();
        index.refresh(&folder, kind).map_err(|err| failed(&folder, &err))?;
        Ok(question(&index.index))
    }
}

impl ByteStore for Files {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: true, compare_and_swap: true, lease: true, accounts: true, index: true }
    }

    async fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        let key = key.clone();
        self.blocking(move |inner| inner.get(&key)).await
    }

    async fn put(&self, key: &Key, bytes: &[u8], meta: &Meta, was: Option<&Version>) -> Result<Version, StoreError> {
        let file = with_entry(self.0.codec.encode(key, meta.generation, bytes)?, meta);
        let (key, was) = (key.clone(), was.cloned());
        self.blocking(move |inner| inner.put(&key, &file, was.as_ref())).await
    }

    async fn delete(&self, key: &Key, was: &Version) -> Result<(), StoreError> {
        let (key, was) = (key.clone(), was.clone());
        self.blocking(move |inner| {
            inner.change(&key, Some(&was), |path| std::fs::remove_file(path).map_err(|err| failed(path, &err)))
        })
        .await
    }

    async fn list(&self, scan: &Scan) -> Result<Page, StoreError> {
        let scan = scan.clone();
        self.blocking(move |inner| inner.ask(scan.kind, |index| index.list(&scan))).await
    }

    async fn counts(&self, kind: Kind, connection: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
        let connection = connection.map(str::to_owned);
        self.blocking(move |inner| inner.ask(kind, |index| index.counts(kind, connection.as_deref()))).await
    }

    async fn due(&self, kind: Kind, connection: &str, before: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        let connection = connection.to_owned();
        self.blocking(move |inner| inner.ask(kind, |index| index.due(kind, &connection, before, limit))).await
    }

    async fn acquire(&self, key: &Key, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        self.0.acquire(key, owner, ttl, now)
    }

    async fn release(&self, key: &Key, owner: &str) -> Result<(), StoreError> {
        self.0.release(key, owner);
        Ok(())
    }
}
