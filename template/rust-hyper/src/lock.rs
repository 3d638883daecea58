//! The lock file that health checks look for: `$TMPDIR/.lock`, or `/tmp/.lock`.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// Where the file is, and whether this process could write one.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    /// With a root file system that is read-only and no `/tmp` there is no file to look at, and health doesn't depend
    /// on one.
    watched: AtomicBool,
    suppressed: bool,
}

impl Lock {
    /// A lock file that is not written yet. `suppressed`: it never will be.
    pub(crate) fn new(path: PathBuf, suppressed: bool) -> Self {
        Self { path, watched: AtomicBool::new(true), suppressed }
    }

    /// Writes the file, unless it is suppressed.
    pub(crate) fn write(&self) -> io::Result<()> {
        let written = if self.suppressed { Ok(()) } else { create(&self.path) };
        self.watched.store(written.is_ok(), Relaxed);
        written
    }

    /// Looked at on every call: deleting the file takes the function out of service, putting it back heals. Only "does
    /// not exist" counts as absent.
    pub(crate) fn is_present(&self) -> bool {
        !self.watched.load(Relaxed) || !is_absent(&self.path)
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        match () {
            () if !self.watched.load(Relaxed) => Ok(()),
            // One that is there is not this process's.
            () if self.suppressed => fs::metadata(&self.path).map(drop),
            () => fs::remove_file(&self.path),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether the file at `path` surely does not exist.
pub(crate) fn is_absent(path: &Path) -> bool {
    matches!(fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn create(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o660).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        std::env::temp_dir().join(format!("lock-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    #[test]
    fn the_file_comes_goes_and_is_looked_at_each_time() {
        let folder = folder();
        let path = folder.join("a").join(".lock");
        let lock = Lock::new(path.clone(), false);
        let written = lock.write();
        written.unwrap();
        assert!(lock.is_present());
        fs::remove_file(&path).unwrap();
        assert!(!lock.is_present());
        fs::write(&path, "").unwrap();
        assert!(lock.is_present());
        lock.remove().unwrap();
        assert!(!path.exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn suppressed_means_never_written_and_never_there() {
        let lock = Lock::new(folder().join(".lock"), true);
        let written = lock.write();
        written.unwrap();
        assert!(!lock.is_present());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_not_watched() {
        let lock = Lock::new("/dev/null/x/.lock".into(), false);
        let written = lock.write();
        assert!(written.is_err());
        assert!(lock.is_present());
    }
}
