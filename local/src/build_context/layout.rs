//! Brings a build context on the disk up to date: what is the same keeps its time, what is new or changed gets the
//! present one.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{Context, LaidOut};

/// Bits of a file's mode that are copied: permissions, set-user-id, set-group-id, sticky.
const MODE: u32 = 0o7777;

/// The mode of the context and of the handler in it, as faas-cli makes them.
const PRIVATE: u32 = 0o700;

/// What a path of the context holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Entry {
    Folder { mode: u32 },
    File { mode: u32, sha256: String },
}

/// Every path of a context, relative to it; folders come before what is in them.
type Entries = BTreeMap<PathBuf, Entry>;

/// What belongs into a context, and the file that each of its files is copied from.
struct Plan {
    entries: Entries,
    sources: BTreeMap<PathBuf, PathBuf>,
}

pub(super) fn update(context: &Context, handler_folder: &Path) -> anyhow::Result<LaidOut> {
    let folder = context.folder();
    let record = folder.with_file_name(format!("{}.json", context.name));
    let plan = Plan::new(context, handler_folder)?;
    let before = if folder.is_dir() { read(&record) } else { None };
    if before.as_ref() == Some(&plan.entries) {
        return Ok(LaidOut { folder, changed: false });
    }
    // An update that is interrupted is made from the start.
    remove_file(&record)?;
    private(&folder)?;
    match before {
        Some(before) if !plan.changes_manifests(&before, handler_folder) => plan.replace(&folder, &before)?,
        _ => plan.restore(&folder)?,
    }
    plan.set_folder_modes(&folder)?;
    fs::write(&record, serde_json::to_vec(&plan.entries)?)
        .with_context(|| format!("cannot write {}", record.display()))?;
    Ok(LaidOut { folder, changed: true })
}

impl Plan {
    fn new(context: &Context, handler_folder: &Path) -> anyhow::Result<Self> {
        let (mut entries, mut sources) = (Entries::new(), BTreeMap::new());
        context.walk(handler_folder, &mut |item| {
            let mode = item.found.permissions().mode() & MODE;
            let entry = if item.found.is_dir() {
                Entry::Folder { mode }
            } else {
                let content = fs::read(item.from).with_context(|| format!("cannot read {}", item.from.display()))?;
                sources.insert(item.to.to_owned(), item.from.to_owned());
                Entry::File { mode, sha256: sha256(&content) }
            };
            match entries.insert(item.to.to_owned(), entry.clone()) {
                Some(other) if other.is_folder() != entry.is_folder() => {
                    bail!("{} cannot be both a file and a folder of the build context", item.to.display())
                }
                _ => Ok(()),
            }
        })?;
        for parent in handler_folder.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            entries.entry(parent.to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
        entries.insert(handler_folder.to_owned(), Entry::Folder { mode: PRIVATE });
        Ok(Self { entries, sources })
    }

    /// Whether a file has changed that a build script may have worked into other files: a manifest, or a file of the
    /// template.
    fn changes_manifests(&self, before: &Entries, handler_folder: &Path) -> bool {
        let all = self.entries.keys().chain(before.keys());
        let mut changed = all.filter(|path| self.entries.get(*path) != before.get(*path));
        changed.any(|path| {
            let manifest = path.file_name().is_some_and(|name| name == "Cargo.toml" || name == "Cargo.lock");
            manifest || !path.starts_with(handler_folder)
        })
    }

    /// Writes what differs from `before`; what a build script made of the rest stays.
    fn replace(&self, folder: &Path, before: &Entries) -> anyhow::Result<()> {
        loosen(folder)?;
        for (path, entry) in before.iter().rev() {
            if self.entries.get(path).is_none_or(|now| now.is_folder() != entry.is_folder()) {
                remove(&folder.join(path))?;
            }
        }
        for (path, entry) in &self.entries {
            if before.get(path) != Some(entry) {
                self.write(folder, path, entry)?;
            }
        }
        Ok(())
    }

    /// Makes the context hold exactly this, whatever was there.
    fn restore(&self, folder: &Path) -> anyhow::Result<()> {
        loosen(folder)?;
        let mut found = Vec::new();
        list(folder, Path::new(""), &mut found)?;
        for (path, is_folder) in found.iter().rev() {
            if self.entries.get(path).is_none_or(|now| now.is_folder() != *is_folder) {
                remove(&folder.join(path))?;
            }
        }
        for (path, entry) in &self.entries {
            let same = match entry {
                Entry::Folder { .. } => false,
                Entry::File { sha256: expected, .. } => {
                    fs::read(folder.join(path)).is_ok_and(|content| sha256(&content) == *expected)
                }
            };
            if same {
                set_mode(&folder.join(path), entry.mode())?;
            } else {
                self.write(folder, path, entry)?;
            }
        }
        Ok(())
    }

    fn write(&self, folder: &Path, path: &Path, entry: &Entry) -> anyhow::Result<()> {
        let to = folder.join(path);
        let Some(from) = self.sources.get(path) else {
            // Its own mode is set last.
            return match fs::create_dir(&to) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    Err(error).with_context(|| format!("cannot create {}", to.display()))
                }
                _ => Ok(()),
            };
        };
        // The file that was there may be read-only.
        remove_file(&to)?;
        // Not `fs::copy`, which keeps the time of the source on some systems.
        fs::read(from)
            .and_then(|content| fs::write(&to, content))
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        set_mode(&to, entry.mode())
    }

    /// The modes of folders, innermost first: a folder may be one that does not allow any change in it.
    fn set_folder_modes(&self, folder: &Path) -> anyhow::Result<()> {
        for (path, entry) in self.entries.iter().rev().filter(|(_, entry)| entry.is_folder()) {
            set_mode(&folder.join(path), entry.mode())?;
        }
        Ok(())
    }
}

impl Entry {
    fn is_folder(&self) -> bool {
        matches!(self, Self::Folder { .. })
    }

    fn mode(&self) -> u32 {
        match self {
            Self::Folder { mode } | Self::File { mode, .. } => *mode,
        }
    }
}

fn sha256(content: &[u8]) -> String {
    digest(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The record of the last update, if it can be read.
fn read(record: &Path) -> Option<Entries> {
    serde_json::from_slice(&fs::read(record).ok()?).ok()
}

/// A folder for the user alone, whatever was there before.
fn private(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(folder)
        .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(PRIVATE)))
        .with_context(|| format!("cannot create {}", folder.display()))
}

/// Lets the user write to every folder in `folder`.
fn loosen(folder: &Path) -> anyhow::Result<()> {
    set_mode(folder, PRIVATE)?;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            loosen(&entry.path())?;
        }
    }
    Ok(())
}

/// Every path in a folder, and whether it is a folder; folders come before what is in them.
fn list(root: &Path, path: &Path, found: &mut Vec<(PathBuf, bool)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(root.join(path))? {
        let entry = entry?;
        let (path, is_folder) = (path.join(entry.file_name()), entry.file_type()?.is_dir());
        found.push((path.clone(), is_folder));
        if is_folder {
            list(root, &path, found)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => remove_file(path),
    }
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

#[cfg(test)]
mod tests;
