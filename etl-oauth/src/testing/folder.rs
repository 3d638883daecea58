use std::{fs, path::PathBuf};

/// A folder of its own that goes away with the test.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        let mut name = [0; 8];
        aws_lc_rs::rand::fill(&mut name).expect("the system has randomness");
        let path = std::env::temp_dir().join(format!("etl-oauth-test-{:016x}", u64::from_le_bytes(name)));
        fs::create_dir(&path).expect("the temporary folder can be written");
        Self(path)
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.0
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("the temporary folder can be written");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
