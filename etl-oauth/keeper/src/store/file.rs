use std::{
    collections::HashMap,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use aws_lc_rs::digest;
use jiff::Timestamp;
use rustix::fs::OFlags;
use tokio::time::Instant;

use super::{Acquired, Capabilities, Codec, StoreError, StoreOptions, Stored, TokenStore, Version, check_account};
use crate::token::Record;

/// How long a write waits for the writes of other processes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sealed files in one folder, for the processes of one host: `ACCOUNT.json`, and beside it `.ACCOUNT.lease` and
/// `.ACCOUNT.lock`, which are empty and only ever locked.
///
/// A record is written to a new file, that is synced, takes the old one's name, and then the folder is synced: a crash or
/// a full disk leaves the old record. The version is the digest of the file, so that a file put back from a backup is a
/// change like any other.
///
/// A lease is an `flock` that this process holds, so it ends with the process, however that ends. One that stops
/// (`SIGSTOP`, a debugger) keeps it: its request to the provider may be under way. A holder that runs and falls silent loses
/// it after `ttl`.
#[derive(Clone, Debug)]
pub struct Files(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    codec: Codec,
    leases: Mutex<HashMap<String, Lease>>,
}

#[derive(Debug)]
struct Lease {
    owner: String,
    until: Instant,
    /// Closing it unlocks it.
    _lock: File,
}

impl Files {
    /// The store in the folder `store_path`, which is made where its parent exists.
    ///
    /// # Errors
    /// [`StoreError::Config`] when there is no such folder and it cannot be made, when it would not outlive a restart though
    /// the provider rotates, or when there are no keys to seal with.
    pub fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let Some(folder) = &options.path else {
            return Err(StoreError::Config("store=file needs store_path: a folder on a disk that survives".into()));
        };
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Config(format!("store_path={} cannot be made: {err}", folder.display())));
            }
            _ if !folder.is_dir() => {
                return Err(StoreError::Config(format!("store_path={} is not a folder", folder.display())));
            }
            _ => {}
        }
        check_folder(folder)?;
        if options.rotates
            && !options.allow_ephemeral
            && let Some(kind) = ephemeral(folder)?
        {
            return Err(StoreError::Config(format!(
                "store_path={} is on {kind}, which a restart may empty, and this provider's refresh tokens are good for one \
                 use: mount a disk there, choose another store, or set allow_ephemeral_store=true",
                folder.display()
            )));
        }
        let codec = Codec::sealed(&options.function, options.secrets.clone())?;
        Ok(Self(Arc::new(Inner { folder: folder.clone(), codec, leases: Mutex::default() })))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        let joined = tokio::task::spawn_blocking(move || work(&inner)).await;
        joined.unwrap_or_else(|_| Err(StoreError::Unavailable("the function is stopping".into())))
    }
}

impl Inner {
    fn file(&self, account: &str) -> PathBuf {
        self.folder.join(format!("{account}.json"))
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, account: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.file(account);
        let read = |mut file: File| {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map(|_| bytes)
        };
        match open_ours(&path, OpenOptions::new().read(true)).and_then(read) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(err) if err.kind() == io::ErrorKind::NotFound && self.folder.is_dir() => Ok(None),
            Err(err) => Err(failed(&path, &err)),
        }
    }

    /// Compares and replaces, while no other process does.
    fn replace(&self, account: &str, bytes: &[u8], was: Option<&Version>) -> Result<Version, StoreError> {
        let _one_writer = self.lock(account)?;
        if self.read(account)?.as_deref().map(version).as_ref() != was {
            return Err(StoreError::Conflict);
        }
        let (path, new) = (self.file(account), self.folder.join(format!(".{account}.new")));
        write_synced(&new, bytes).and_then(|()| std::fs::rename(&new, &path)).map_err(|err| {
            // What is left of it is truncated by the next write at the latest.
            let _ = std::fs::remove_file(&new);
            failed(&path, &err)
        })?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(|err| failed(&self.folder, &err))?;
        Ok(version(bytes))
    }

    /// An account's own: a write waits for a disk, and no other account's need wait with it.
    fn lock(&self, account: &str) -> Result<File, StoreError> {
        let path = self.folder.join(format!(".{account}.lock"));
        let lock = lock_file(&path)?;
        let start = std::time::Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                // A process that was stopped in the middle of a write must not hang this one.
                Err(TryLockError::WouldBlock) if start.elapsed() > PATIENCE => {
                    return Err(StoreError::Unavailable(format!("another process keeps {} locked", path.display())));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
                Err(TryLockError::Error(err)) => return Err(failed(&path, &err)),
            }
        }
    }
}

impl TokenStore for Files {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: true, compare_and_swap: true, lease: true, accounts: true }
    }

    async fn load(&self, account: &str) -> Result<Option<Stored>, StoreError> {
        check_account(account)?;
        let account = account.to_owned();
        self.blocking(move |inner| {
            let Some(bytes) = inner.read(&account)? else { return Ok(None) };
            let version = version(&bytes);
            match inner.codec.decode(&account, &bytes) {
                Ok(record) => Ok(Some(Stored { record, version })),
                Err(err) => Err(err.at(version)),
            }
        })
        .await
    }

    async fn save(&self, account: &str, record: &Record, was: Option<&Version>) -> Result<Version, StoreError> {
        check_account(account)?;
        let bytes = self.0.codec.encode(account, record)?;
        let (account, was) = (account.to_owned(), was.cloned());
        self.blocking(move |inner| inner.replace(&account, &bytes, was.as_ref())).await
    }

    async fn accounts(&self) -> Result<Vec<String>, StoreError> {
        self.blocking(|inner| {
            let list = || -> io::Result<Vec<String>> {
                let mut accounts = Vec::new();
                for entry in std::fs::read_dir(&inner.folder)? {
                    let name = entry?.file_name();
                    let account = name.to_str().and_then(|name| name.strip_suffix(".json"));
                    accounts.extend(account.filter(|account| check_account(account).is_ok()).map(str::to_owned));
                }
                accounts.sort_unstable();
                Ok(accounts)
            };
            list().map_err(|err| failed(&inner.folder, &err))
        })
        .await
    }

    // Opening and locking without waiting take no time worth a thread.
    async fn acquire(&self, account: &str, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        check_account(account)?;
        let until = Instant::now() + ttl;
        let acquired = Acquired::Until(now.checked_add(ttl).unwrap_or(Timestamp::MAX));
        let mut leases = self.0.leases();
        if let Some(lease) = leases.get_mut(account) {
            if lease.owner == owner {
                lease.until = lease.until.max(until);
                return Ok(acquired);
            }
            if lease.until > Instant::now() {
                return Ok(Acquired::Busy);
            }
            leases.remove(account);
        }
        let path = self.0.folder.join(format!(".{account}.lease"));
        let lock = lock_file(&path)?;
        match lock.try_lock() {
            Ok(()) => {
                leases.insert(account.to_owned(), Lease { owner: owner.to_owned(), until, _lock: lock });
                tokio::spawn(end_when_silent(Arc::downgrade(&self.0), account.to_owned(), until));
                Ok(acquired)
            }
            Err(TryLockError::WouldBlock) => Ok(Acquired::Busy),
            Err(TryLockError::Error(err)) => Err(failed(&path, &err)),
        }
    }

    async fn release(&self, account: &str, owner: &str) -> Result<(), StoreError> {
        let mut leases = self.0.leases();
        if leases.get(account).is_some_and(|lease| lease.owner == owner) {
            leases.remove(account);
        }
        Ok(())
    }
}

/// Drops the lease when its holder has let it run out: other processes see no time, only the lock.
async fn end_when_silent(inner: Weak<Inner>, account: String, mut until: Instant) {
    loop {
        tokio::time::sleep_until(until).await;
        let Some(inner) = inner.upgrade() else { return };
        let mut leases = inner.leases();
        match leases.get(&account) {
            Some(lease) if lease.until > Instant::now() => until = lease.until,
            Some(_) => {
                leases.remove(&account);
                return;
            }
            None => return,
        }
    }
}

fn lock_file(path: &Path) -> Result<File, StoreError> {
    open_ours(path, OpenOptions::new().write(true).create(true).truncate(false)).map_err(|err| failed(path, &err))
}

/// Opens a file of this store. What others may have planted is refused: a link, another kind of file, a file of another user,
/// one that others may write to.
fn open_ours(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Without waiting: a named pipe would keep the thread.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits().cast_signed()).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    let wrong = match metadata.mode() & 0o022 {
        _ if !metadata.is_file() => "is no regular file",
        _ if !is_trusted(metadata.uid()) => "belongs to another user than the function's",
        0 => return Ok(file),
        _ => "can be written by others",
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it {wrong}: look who put it there, and remove it")))
}

/// Whether the user is the function's own, or root.
fn is_trusted(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

/// Refuses a folder of another user, who could replace every file in it.
fn check_folder(folder: &Path) -> Result<(), StoreError> {
    let wrong = |why: String| StoreError::Config(format!("store_path={} {why}", folder.display()));
    let metadata = std::fs::metadata(folder).map_err(|err| wrong(format!("cannot be looked at: {err}")))?;
    if !is_trusted(metadata.uid()) {
        return Err(wrong(format!("belongs to the user {}: give it to the function's own", metadata.uid())));
    }
    if metadata.mode() & 0o1002 == 0o002 {
        let path = folder.display();
        tracing::warn!(%path, "any user of this host can remove files from store_path: `chmod 0700` it");
    }
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Made anew, so that it is ours: what a crash has left behind goes first.
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let mut file = open_ours(path, OpenOptions::new().write(true).create_new(true))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn version(bytes: &[u8]) -> Version {
    let digest = digest::digest(&digest::SHA256, bytes);
    Version::new(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn failed(path: &Path, err: &io::Error) -> StoreError {
    let is_link = err.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    if is_link {
        return StoreError::Refused(format!(
            "{}: it is a symbolic link: look who put it there, and remove it",
            path.display()
        ));
    }
    let what = format!("{}: {err}", path.display());
    match err.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreError::Refused(what),
        _ => StoreError::Unavailable(what),
    }
}

/// The kind of file system below `folder`, where that is one whose files end with the container or the machine.
fn ephemeral(folder: &Path) -> Result<Option<&'static str>, StoreError> {
    let stat = rustix::fs::statfs(folder)
        .map_err(|err| StoreError::Config(format!("store_path={} cannot be looked at: {err}", folder.display())))?;
    // The magic numbers of statfs(2), 32 bits in whatever type the platform has for them.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they are 32 bits wide")]
    Ok(match stat.f_type as u32 {
        0x0102_1994 => Some("a tmpfs"),
        0x8584_58f6 => Some("a ramfs"),
        0x794c_7630 => Some("the container's own layer (overlay)"),
        _ => None,
    })
}
