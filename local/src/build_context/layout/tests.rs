use std::time::SystemTime;

use super::*;

struct Project {
    folder: tempfile::TempDir,
    context: Context,
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().canonicalize().unwrap();
        let context = Context {
            state: project.join(".local"),
            project,
            name: "f".to_owned(),
            lang: "demo".to_owned(),
            handler: "f".to_owned(),
            copy: Vec::new(),
        };
        let project = Self { folder, context };
        for (path, text) in [
            ("template/demo/template.yml", "language: demo\n"),
            ("template/demo/Cargo.toml", "template"),
            ("template/demo/src/main.rs", "main"),
            ("f/Cargo.toml", "handler"),
            ("f/src/lib.rs", "one"),
            ("f/src/deep/gone.rs", "gone"),
        ] {
            project.write(path, text);
        }
        project
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn built(&self, path: &str) -> PathBuf {
        self.context.folder().join(path)
    }

    /// What a build script does: it works a manifest into another one.
    fn bind(&self) {
        fs::write(self.built("Cargo.toml"), "bound").unwrap();
        fs::write(self.built(".bound"), "").unwrap();
    }

    /// A time long ago, so that a file that is written again shows.
    fn age(&self, path: &str) {
        fs::File::options().append(true).open(self.built(path)).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }

    fn aged(&self, path: &str) -> bool {
        fs::metadata(self.built(path)).unwrap().modified().unwrap() == SystemTime::UNIX_EPOCH
    }
}

#[test]
fn a_context_that_has_not_changed_is_left_alone() {
    let project = Project::new();
    assert!(project.context.lay_out().unwrap().changed);
    project.bind();
    // The same text at another time.
    project.write("f/src/lib.rs", "one");
    assert!(!project.context.lay_out().unwrap().changed);
    assert_eq!(fs::read_to_string(project.built("Cargo.toml")).unwrap(), "bound");
}

#[test]
fn a_source_that_changes_is_the_only_file_that_is_written() {
    let project = Project::new();
    project.context.lay_out().unwrap();
    project.bind();
    let others = ["src/main.rs", "function/Cargo.toml", "Cargo.toml"];
    others.iter().for_each(|path| project.age(path));
    project.age("function/src/lib.rs");
    project.write("f/src/lib.rs", "two");
    project.write("f/src/new.rs", "new");
    fs::remove_dir_all(project.folder.path().join("f/src/deep")).unwrap();
    assert!(project.context.lay_out().unwrap().changed);
    assert!(others.iter().all(|path| project.aged(path)) && !project.aged("function/src/lib.rs"));
    assert_eq!(fs::read_to_string(project.built("function/src/lib.rs")).unwrap(), "two");
    assert!(project.built("function/src/new.rs").is_file() && !project.built("function/src/deep").exists());
    assert!(project.built(".bound").is_file(), "what the build script made stays");
}

#[test]
fn a_manifest_that_changes_undoes_what_the_build_script_made_of_it() {
    for changed in ["f/Cargo.toml", "template/demo/build.sh"] {
        let project = Project::new();
        project.context.lay_out().unwrap();
        project.bind();
        project.age("function/src/lib.rs");
        project.write(changed, "changed");
        assert!(project.context.lay_out().unwrap().changed);
        assert_eq!(fs::read_to_string(project.built("Cargo.toml")).unwrap(), "template", "{changed}");
        assert!(!project.built(".bound").exists() && project.aged("function/src/lib.rs"), "{changed}");
    }
}

#[test]
fn an_update_that_was_interrupted_is_made_from_the_start() {
    let project = Project::new();
    project.context.lay_out().unwrap();
    fs::write(project.built("function/src/lib.rs"), "half").unwrap();
    fs::remove_file(project.context.folder().with_file_name("f.json")).unwrap();
    project.context.lay_out().unwrap();
    assert_eq!(fs::read_to_string(project.built("function/src/lib.rs")).unwrap(), "one");
}

#[test]
fn what_faas_cli_builds_in_the_same_folder_is_not_touched() {
    let project = Project::new();
    project.write("build/f/function/src/lib.rs", "faas-cli's");
    project.context.lay_out().unwrap();
    fs::remove_dir_all(project.folder.path().join("build")).unwrap();
    assert!(!project.context.lay_out().unwrap().changed && project.built("function/src/lib.rs").is_file());
}

#[test]
fn folders_of_build_output_and_the_context_itself_are_left_out() {
    let mut project = Project::new();
    project.context.handler = ".".to_owned();
    project.write("target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    project.write("target/debug/large", "");
    project.context.lay_out().unwrap();
    assert!(!project.context.lay_out().unwrap().changed, "the context does not hold itself");
    assert!(!project.built("function/target").exists() && project.built("function/f/src/lib.rs").is_file());
}
