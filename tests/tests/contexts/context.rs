//! A build context and the Dockerfile's commands in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// This repository.
pub(crate) fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Everything of a folder but what no repository holds.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to).unwrap();
        } else if !["target", "node_modules", "__pycache__"].map(AsRef::as_ref).contains(&entry.file_name().as_os_str())
        {
            copy(&entry.path(), &to);
        }
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[track_caller]
pub(crate) fn run(program: &str, folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(program);
    // Of the git that may run this, as a hook does.
    command.env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE");
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Commits everything of a folder, in a repository of its own.
pub(crate) fn commit(folder: &Path) {
    let author = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main"];
    run("git", folder, &[&author[..], &["init", "--quiet"]].concat());
    run("git", folder, &["add", "--all", "--force"]);
    run("git", folder, &[&author[..], &["commit", "--quiet", "--allow-empty", "--message", "as it is"]].concat());
}

/// Name and version of each package that a lock file takes from somewhere else than a folder.
pub(crate) fn packages(lock: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(lock).unwrap_or_else(|error| panic!("{}: {error}", lock.display()));
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let package = |block| {
        value(block, "source")?;
        Some(format!("{} {}", value(block, "name")?, value(block, "version")?))
    };
    text.split("[[package]]").filter_map(package).collect()
}

/// A builder: what it has downloaded is in a folder of its own.
pub(crate) struct Builder {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// How a step ended.
pub(crate) struct Step {
    pub(crate) ok: bool,
    pub(crate) text: String,
    /// The context as the step for the dependencies saw it.
    pub(crate) manifests: PathBuf,
}

impl Step {
    #[track_caller]
    pub(crate) fn passed(self) -> Self {
        assert!(self.ok, "{}", self.text);
        self
    }

    /// It failed, and its last words are one sentence of the script's own.
    #[track_caller]
    pub(crate) fn refused(self, with: &str) {
        assert!(!self.ok, "it went through");
        let last = self.text.lines().last().unwrap_or_default();
        assert!(last.starts_with("build.sh: ") && last.contains(with), "{}", self.text);
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.manifests.join("function/Cargo.lock")
    }

    /// The versions that no lock file named.
    pub(crate) fn newly_resolved(&self) -> Option<&str> {
        self.text.lines().find(|line| line.contains("in no lock file"))
    }
}

impl Builder {
    /// With an empty cargo home.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("cargo")).unwrap();
        Self { folder, environment: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What is `/root` in the image.
    pub(crate) fn home(&self) -> &Path {
        self.folder.path()
    }

    /// A context of the template with a handler of these files, over the starter as faas-cli lays it.
    pub(crate) fn context(&self, name: &str, handler: &[(&str, &str)]) -> PathBuf {
        let context = self.folder.path().join("build").join(name);
        copy(&checkout().join("template/rust-hyper"), &context);
        for (path, text) in handler {
            write(&context.join("function").join(path), text);
        }
        context
    }

    /// The same of a whole folder.
    pub(crate) fn context_of(&self, name: &str, handler: &Path) -> PathBuf {
        let context = self.context(name, &[]);
        copy(handler, &context.join("function"));
        context
    }

    /// The stage `manifests`, then the dependencies' step in another folder, where nothing else is: settles the versions and
    /// downloads them.
    pub(crate) fn fetch(&self, context: &Path) -> Step {
        let build = context.with_extension("layer");
        let first = self.script(context, "manifests", &build);
        if !first.ok {
            return first;
        }
        fs::create_dir_all(&build).unwrap();
        fs::copy(context.join("build.sh"), build.join("build.sh")).unwrap();
        copy(&context.join("manifests"), &build.join("manifests"));
        self.script(&build, "fetch", &build)
    }

    /// `build.sh ARGUMENT` with nothing of this machine but the toolchain and the way to the network.
    pub(crate) fn script(&self, folder: &Path, argument: &str, build: &Path) -> Step {
        let mut command = Command::new("sh");
        command.args(["build.sh", argument]).current_dir(folder).env_clear();
        for (name, value) in std::env::vars() {
            let network = name.to_ascii_lowercase().ends_with("_proxy") || name.starts_with("SSL_CERT_");
            if network || ["PATH", "RUSTUP_HOME"].contains(&name.as_str()) {
                command.env(name, value);
            }
        }
        if std::env::var_os("RUSTUP_HOME").is_none() {
            command.env("RUSTUP_HOME", Path::new(&std::env::var("HOME").unwrap()).join(".rustup"));
        }
        command.env("HOME", self.folder.path()).env("CARGO_HOME", self.folder.path().join("cargo"));
        // The Dockerfile's own; no version of Rust is downloaded here.
        command.envs([
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "credential.helper"),
            ("GIT_CONFIG_VALUE_0", "store"),
        ]);
        command.env("RUSTUP_AUTO_INSTALL", "0");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Step {
            ok: output.status.success(),
            text: String::from_utf8_lossy(&text).trim_end().to_owned(),
            manifests: build.join("manifests"),
        }
    }
}
