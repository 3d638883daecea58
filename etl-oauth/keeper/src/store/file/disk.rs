//! Files that are this store's own: opened so that what others planted is refused, written so that a crash leaves the old
//! one.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use aws_lc_rs::digest;
use rustix::fs::OFlags;

use crate::store::{StoreError, Version};

pub(super) fn lock_file(path: &Path) -> Result<File, StoreError> {
    open_ours(path, OpenOptions::new().write(true).create(true).truncate(false)).map_err(|err| failed(path, &err))
}

/// Opens a file of this store. What others may have planted is refused: a link, another kind of file, a file of another user,
/// one that others may write to.
pub(super) fn open_ours(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
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
pub(super) fn check_folder(folder: &Path) -> Result<(), StoreError> {
    let wrong = |why: String| StoreError::config(format!("store_path={} {why}", folder.display()));
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

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Made anew, so that it is ours: what a crash has left behind goes first.
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let mut file = open_ours(path, OpenOptions::new().write(true).create_new(true))?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) fn version(bytes: &[u8]) -> Version {
    let digest = digest::digest(&digest::SHA256, bytes);
    Version::new(hex::encode(digest.as_ref()))
}

pub(super) fn failed(path: &Path, err: &io::Error) -> StoreError {
    let is_link = err.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    if is_link {
        return StoreError::refused(format!(
            "{}: it is a symbolic link: look who put it there, and remove it",
            path.display()
        ));
    }
    let what = format!("{}: {err}", path.display());
    let cause = io::Error::from(err.kind());
    match err.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreError::refused(what).because(cause),
        _ => StoreError::unavailable(what).because(cause),
    }
}

/// The kind of file system below `folder`, where that is one whose files end with the container or the machine.
pub(super) fn ephemeral(folder: &Path) -> Result<Option<&'static str>, StoreError> {
    let stat = rustix::fs::statfs(folder)
        .map_err(|err| StoreError::config(format!("store_path={} cannot be looked at: {err}", folder.display())))?;
    // The magic numbers of statfs(2), 32 bits in whatever type the platform has for them.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they are 32 bits wide")]
    Ok(match stat.f_type as u32 {
        0x0102_1994 => Some("a tmpfs"),
        0x8584_58f6 => Some("a ramfs"),
        0x794c_7630 => Some("the container's own layer (overlay)"),
        _ => None,
    })
}
