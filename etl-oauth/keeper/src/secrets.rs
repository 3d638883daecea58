//! The secrets that OpenFaaS mounts: one file each.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::token::Secret;

/// The folder of mounted secrets. Every read goes to the file: Kubernetes swaps a mounted secret within a minute of its
/// change, faasd rewrites the file in place.
#[derive(Clone, Debug)]
pub struct Secrets {
    folder: PathBuf,
    prefix: String,
}

/// Why a secret cannot be used. Names the secret, never shows it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Not mounted.
    #[error(
        "secret {name} is missing in {folder}: create it with `faas-cli secret create {name}` and list it under `secrets`"
    )]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        folder: String,
    },
    /// Mounted, with nothing in it.
    #[error("secret {name} is empty: give it a value with `faas-cli secret update {name}`")]
    Empty {
        /// Its name.
        name: String,
    },
    /// Mounted, and not readable.
    #[error("secret {name} cannot be read: {reason}")]
    Unreadable {
        /// Its name.
        name: String,
        /// The kind of the failure.
        reason: io::ErrorKind,
    },
}

impl Secrets {
    /// Where OpenFaaS mounts them.
    pub const FOLDER: &'static str = "/var/openfaas/secrets";

    /// The secrets in `folder`, each name with `prefix` before it.
    pub fn new(folder: impl Into<PathBuf>, prefix: impl Into<String>) -> Self {
        Self { folder: folder.into(), prefix: prefix.into() }
    }

    /// The name of a secret as it is mounted: with the prefix.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the secret is mounted, whatever is in it.
    #[must_use]
    pub fn is_mounted(&self, name: &str) -> bool {
        self.folder.join(self.name(name)).is_file()
    }

    /// The secret's value without white space around it; `None` where it is not mounted.
    ///
    /// # Errors
    /// When it is mounted and cannot be read as text.
    pub fn read(&self, name: &str) -> Result<Option<Secret>, SecretError> {
        let name = self.name(name);
        match std::fs::read_to_string(self.folder.join(&name)) {
            Ok(text) => Ok(Some(Secret::new(text.trim()))),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(SecretError::Unreadable { name, reason: err.kind() }),
        }
    }

    /// The secret's value, which must be there and hold something.
    ///
    /// # Errors
    /// When it is missing, empty or unreadable.
    pub fn require(&self, name: &str) -> Result<Secret, SecretError> {
        match self.read(name)? {
            Some(value) if value.expose().is_empty() => Err(SecretError::Empty { name: self.name(name) }),
            Some(value) => Ok(value),
            None => Err(SecretError::Missing { name: self.name(name), folder: self.folder.display().to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_trimmed_and_read_anew_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(folder.path(), "mine-");
        assert!(secrets.read("id").unwrap().is_none() && !secrets.is_mounted("id"));
        for value in ["one\n", "  two \r\n"] {
            std::fs::write(folder.path().join("mine-id"), value).unwrap();
            assert_eq!(secrets.require("id").unwrap().expose(), value.trim());
        }
    }

    #[test]
    fn a_missing_and_an_empty_secret_are_told_apart_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(folder.path(), "");
        assert!(secrets.require("id").unwrap_err().to_string().starts_with("secret id is missing in"));
        std::fs::write(folder.path().join("id"), "\n").unwrap();
        assert!(secrets.require("id").unwrap_err().to_string().starts_with("secret id is empty"));
        std::fs::write(folder.path().join("id"), [0xff, 0xfe]).unwrap();
        assert!(matches!(secrets.require("id"), Err(SecretError::Unreadable { .. })));
    }

    #[test]
    fn a_swapped_kubernetes_volume_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, value) in [("..1", "old"), ("..2", "new")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("token"), value).unwrap();
        }
        std::os::unix::fs::symlink("..1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/token", at("token")).unwrap();
        let secrets = Secrets::new(folder.path(), "");
        assert_eq!(secrets.require("token").unwrap().expose(), "old");
        std::os::unix::fs::symlink("..2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(secrets.require("token").unwrap().expose(), "new");
    }
}
