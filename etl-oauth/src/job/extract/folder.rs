use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::job::JobError;

/// Files in a folder.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), JobError> {
        let path = self.0.join(name);
        blocking(path, move |path| write(path, &bytes)).await
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), JobError> {
        blocking(self.0.join(name), |path| match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        })
        .await
    }
}

/// Written beside its place and moved there: no reader ever sees half a file.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let new_folders: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(folder)?;
    // A folder's name is in the one above it: the ledger must not outlive it when the power fails.
    for above in new_folders.into_iter().filter_map(Path::parent).filter(|above| above.exists()) {
        File::open(above)?.sync_all()?;
    }
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

async fn blocking(path: PathBuf, work: impl FnOnce(&Path) -> io::Result<()> + Send + 'static) -> Result<(), JobError> {
    let failed = |path: &Path, why: String| JobError::Sink(format!("{} can't be written: {why}", path.display()));
    let done = tokio::task::spawn_blocking(move || work(&path).map_err(|err| failed(&path, err.to_string()))).await;
    done.unwrap_or_else(|_| Err(JobError::Sink("the function is stopping".into())))
}
