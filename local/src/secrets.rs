//! The secrets: files in one folder, written by the REST API and read by the functions.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;

/// The OpenFaaS provider that the gateway behaves like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum Dialect {
    /// Kubernetes: 202, 404, 409; a changed secret appears whole.
    #[default]
    FaasNetes,
    /// faasd: 200, writing creates or overwrites in place.
    Faasd,
}

/// The folder of secrets.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    folder: PathBuf,
    dialect: Dialect,
}

/// Why a secret was not written.
#[derive(Debug)]
pub(crate) enum Problem {
    Exists,
    Missing,
    /// The name is invalid.
    Name(&'static str),
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists,
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Io(error),
        }
    }
}

impl Secrets {
    /// Opens the folder, or creates it, readable by this user only.
    pub(crate) fn open(folder: &Path, dialect: Dialect) -> anyhow::Result<Self> {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(folder)
            .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
            .with_context(|| format!("cannot create the folder of secrets, {}", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("cannot open {}", folder.display()))?;
        Ok(Self { folder, dialect })
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The file of a secret, whether it exists or not.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.check(name).is_ok() && self.path(name).is_file()
    }

    /// The text of a secret, trimmed.
    pub(crate) fn read(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.path(name)).map(|text| text.trim().to_owned())
    }

    /// The names in order.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = fs::read_dir(&self.folder)?
            .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_file())?.file_name().into_string().ok())
            .filter(|name| self.check(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Creates a secret; an existing one is never overwritten.
    pub(crate) fn create(&self, name: &str, value: &[u8]) -> Result<(), Problem> {
        self.check(name)?;
        let mut file = private().create_new(true).open(self.path(name))?;
        Ok(file.write_all(value)?)
    }

    /// Changes a secret as the chosen provider does.
    pub(crate) fn replace(&self, name: &str, value: &[u8]) -> Result<(), Problem> {
        self.check(name)?;
        let path = self.path(name);
        match self.dialect {
            Dialect::FaasNetes if !path.is_file() => Err(Problem::Missing),
            // Readers see the old value or the new one.
            Dialect::FaasNetes => {
                // One file for each writer: two concurrent ones must not mix.
                static WRITER: AtomicU64 = AtomicU64::new(0);
                let writer = WRITER.fetch_add(1, Ordering::Relaxed);
                let new = self.path(&format!("..{name}.{}.{writer}", std::process::id()));
                let mut file = private().create(true).truncate(true).open(&new)?;
                file.write_all(value)?;
                Ok(fs::rename(&new, &path)?)
            }
            // Writes in place: readers may see a part of the value.
            Dialect::Faasd => Ok(private().create(true).truncate(true).open(&path)?.write_all(value)?),
        }
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), Problem> {
        self.check(name)?;
        Ok(fs::remove_file(self.path(name))?)
    }

    /// Fills `folder` with the secrets that a function lists, and no others.
    pub(crate) fn mount(&self, names: &[String], folder: &Path) -> anyhow::Result<()> {
        DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
        for name in names {
            let (secret, mounted) = (self.path(name), folder.join(name));
            match self.dialect {
                // A projected volume follows the name: a new secret of that name is seen.
                Dialect::FaasNetes => std::os::unix::fs::symlink(&secret, &mounted),
                // A bind mount follows the file: writes are seen, a new file of that name is not.
                Dialect::Faasd => fs::hard_link(&secret, &mounted),
            }
            .with_context(|| format!("cannot give the function its secret {name}"))?;
        }
        Ok(())
    }

    fn check(&self, name: &str) -> Result<(), Problem> {
        let subdomain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        match self.dialect {
            _ if name.is_empty() => Err(Problem::Name("non-empty name is required")),
            Dialect::FaasNetes if name.len() > 253 || !name.bytes().all(subdomain) => {
                Err(Problem::Name("invalid name"))
            }
            Dialect::FaasNetes if name.starts_with(['.', '-']) || name.ends_with(['.', '-']) => {
                Err(Problem::Name("invalid name"))
            }
            _ if name.contains(['/', '\\', '\0']) || name.contains("..") || name == "." => {
                Err(Problem::Name("directory traversal found in name"))
            }
            _ => Ok(()),
        }
    }
}

fn private() -> OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dialect: Dialect) -> (tempfile::TempDir, Secrets) {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(&folder.path().join(".secrets"), dialect).unwrap();
        (folder, secrets)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn folder_and_files_are_for_this_user_alone() {
        let (_folder, secrets) = open(Dialect::FaasNetes);
        secrets.create("a", b"one").unwrap();
        secrets.replace("a", b"two").unwrap();
        assert_eq!((mode(&secrets.folder), mode(&secrets.path("a"))), (0o700, 0o600));
        assert_eq!(secrets.names().unwrap(), ["a"]);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused_in_both_dialects() {
        for dialect in [Dialect::FaasNetes, Dialect::Faasd] {
            let (_folder, secrets) = open(dialect);
            for name in ["", ".", "..", "../a", "a/b", "a\\b", "a\0b", "..a"] {
                assert!(matches!(secrets.create(name, b"x"), Err(Problem::Name(_))), "{dialect:?} {name:?}");
                assert!(matches!(secrets.replace(name, b"x"), Err(Problem::Name(_))), "{dialect:?} {name:?}");
                assert!(matches!(secrets.remove(name), Err(Problem::Name(_))), "{dialect:?} {name:?}");
            }
        }
    }

    #[test]
    fn a_mount_holds_what_was_listed_and_shows_changes() {
        for dialect in [Dialect::FaasNetes, Dialect::Faasd] {
            let (folder, secrets) = open(dialect);
            secrets.create("seen", b"one").unwrap();
            secrets.create("hidden", b"x").unwrap();
            let mounted = folder.path().join("mounted");
            secrets.mount(&["seen".to_owned()], &mounted).unwrap();
            assert_eq!(fs::read_dir(&mounted).unwrap().count(), 1);
            secrets.replace("seen", b"two").unwrap();
            assert_eq!(fs::read(mounted.join("seen")).unwrap(), b"two", "{dialect:?}");
        }
    }

    #[test]
    fn a_running_function_on_faasd_keeps_a_secret_that_was_removed_and_made_anew() {
        let (folder, secrets) = open(Dialect::Faasd);
        secrets.create("s", b"one").unwrap();
        let mounted = folder.path().join("mounted");
        secrets.mount(&["s".to_owned()], &mounted).unwrap();
        secrets.remove("s").unwrap();
        secrets.create("s", b"two").unwrap();
        assert_eq!(fs::read(mounted.join("s")).unwrap(), b"one");
    }
}
