//! What is due, read from the files: each has its index entry beside the sealed text.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use super::disk::open_ours;
use crate::store::{Key, Kind, entry::entry, index::Index};

/// The coarsest time that a file system gives a change: a folder that was changed no longer ago may change again unseen.
const TICK: Duration = Duration::from_secs(1);

/// The index of one folder.
#[derive(Debug, Default)]
pub(super) struct FolderIndex {
    pub(super) index: Index,
    seen: HashMap<Key, Stamp>,
    /// When the folder was changed, and when it was read.
    read: Option<(SystemTime, SystemTime)>,
}

/// What is another after a file was replaced.
type Stamp = (i64, i64, u64, u64);

impl FolderIndex {
    /// Reads what has changed in `folder` since the last time. A folder that is missing is empty.
    pub(super) fn refresh(&mut self, folder: &Path, kind: Kind) -> io::Result<()> {
        let changed = match std::fs::metadata(folder).and_then(|metadata| metadata.modified()) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                *self = Self::default();
                return Ok(());
            }
            changed => changed?,
        };
        if self.read.is_some_and(|(seen, at)| seen == changed && changed + TICK < at) {
            return Ok(());
        }
        let now = SystemTime::now();
        let mut present = HashMap::new();
        for file in std::fs::read_dir(folder)? {
            let file = file?;
            let name = file.file_name();
            let path = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let Some(key) = path.and_then(|path| Key::from_path(kind, path).ok()) else { continue };
            // It may be gone by now.
            let Ok(metadata) = file.metadata() else { continue };
            let stamp = (metadata.mtime(), metadata.mtime_nsec(), metadata.ino(), metadata.size());
            if self.seen.get(&key) != Some(&stamp) {
                self.index.set(&key, &read(&file.path()).map(|bytes| entry(&bytes)).unwrap_or_default());
            }
            present.insert(key, stamp);
        }
        let gone: Vec<Key> = self.index.keys().filter(|key| !present.contains_key(key)).cloned().collect();
        gone.iter().for_each(|key| self.index.remove(key));
        self.seen = present;
        self.read = Some((changed, now));
        Ok(())
    }
}

/// The contents of a file of this store.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let whole = |mut file: File| {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes).map(|_| bytes)
    };
    open_ours(path, OpenOptions::new().read(true)).and_then(whole)
}
