//! Lays build contexts out as faas-cli does, and runs the Dockerfile's own commands in them: what people's function
//! folders look like must not matter.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test, which is to fail of a surprise")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The template's own folder.
fn template() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of a function's folder and what is in it.
type File = (&'static str, String);

fn main_library(answer: &str) -> String {
    format!(
        "use axum::{{Router, routing::get}};
         pub async fn handler() -> Result<Router, Box<dyn std::error::Error + Send + Sync>> {{
             Ok(Router::new().route(\"/\", get(async || \"{answer}\")))
         }}"
    )
}

fn manifest(name: &str, more: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n{more}\n\
         [dependencies]\naxum = {{ version = \"0.8\", default-features = false }}\n"
    )
}

/// The whole template with its starter, then the function's files over `function`, all but the entries that faas-cli
/// leaves out.
fn lay_out(name: &str, files: &[File]) -> PathBuf {
    let context = Path::new(env!("CARGO_TARGET_TMPDIR")).join("build").join(name);
    let _ = fs::remove_dir_all(&context);
    copy(template(), &context);
    for (path, text) in files {
        let path = context.join("function").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    context
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (name, to) = (entry.file_name(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            if name != "target" {
                copy(&entry.path(), &to);
            }
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What the script says on standard output, and what cargo does meanwhile.
fn script(context: &Path, arguments: &[&str]) -> (String, String) {
    let output = Command::new("sh")
        .arg("build.sh")
        .args(arguments)
        .current_dir(context)
        .env("PROFILE", "dev")
        .env("CARGO_TARGET_DIR", target())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: build.sh {arguments:?}:\n{errors}", context.display());
    (String::from_utf8(output.stdout).unwrap(), errors)
}

/// Everything that is built here is in one folder.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("target")
}

fn cargo(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO"));
    // As `build.sh` has it, so that nothing is compiled twice.
    command.env("CARGO_TARGET_DIR", target()).env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn build(context: &Path) -> PathBuf {
    PathBuf::from(script(context, &[]).0.lines().last().unwrap())
}

/// Starts the binary and asks for `/`.
fn ask(binary: &Path) -> String {
    struct Stop(Child);
    impl Drop for Stop {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let folder = binary.with_extension("tmp");
    let mut command = Command::new(binary);
    command.env_clear().env("port", "0").env("metrics_port", "0").env("TMPDIR", &folder);
    let mut child = Stop(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let port = lines.find_map(|line| line.split_once("Listening on port: ")?.1.parse::<u16>().ok()).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: fn\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    drop(child);
    let _ = fs::remove_dir_all(folder);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// One test, since the builds would only wait for each other.
#[test]
fn functions_of_every_shape_build_and_serve() {
    let starter = lay_out("starter", &[]);
    script(&starter, &["dependencies"]);
    // As the Dockerfile does: everything once more, beside the manifests that the step has left.
    copy(template(), &starter);
    for (step, packages) in [(&["test"][..], &["handler"][..]), (&[], &["handler", "watchdog"])] {
        let (_, told) = script(&starter, step);
        let compiled = told.lines().filter_map(|line| line.trim().strip_prefix("Compiling ")?.split(' ').next());
        let others: Vec<_> = compiled.filter(|package| !packages.contains(package)).collect();
        assert_eq!(others, [""; 0], "compiled by {step:?}, although it was built with the dependencies");
    }
    let binary = build(&starter);
    assert_eq!(ask(&binary), "hello\n");
    assert!(fs::read_to_string(starter.join("function/Cargo.lock")).unwrap().contains("name = \"axum\""));

    // Its own name, its library somewhere else, so that the starter's, which faas-cli brings back, is a stale one; and
    // the things that lie about in a folder.
    let own = lay_out(
        "own-name",
        &[
            ("Cargo.toml", manifest("greeter", "[lib]\nname = \"greetings\"\npath = \"handler.rs\"\n")),
            ("handler.rs", main_library("own")),
            ("target/debug/junk", "junk".into()),
            ("target/Cargo.toml", "not a manifest".into()),
        ],
    );
    script(&own, &["dependencies"]);
    fs::write(own.join("function/handler.rs"), main_library("own")).unwrap();
    let binary = build(&own);
    assert_eq!(ask(&binary), "own");
    assert_eq!(binary, build(&own), "building twice in a context changes nothing");

    // The name of the template's own package, in a workspace of its own.
    let same = lay_out(
        "same-name",
        &[("Cargo.toml", manifest("watchdog", "[workspace]\n")), ("src/lib.rs", main_library("same"))],
    );
    assert_eq!(ask(&build(&same)), "same");

    // With a lock file that holds one crate back, made in the function's own folder.
    let files = [("Cargo.toml", manifest("locked", "")), ("src/lib.rs", main_library("locked"))];
    let locked = lay_out("locked", &files);
    let alone = locked.with_file_name("locked-alone");
    let _ = fs::remove_dir_all(&alone);
    copy(&locked.join("function"), &alone);
    fs::write(alone.join("Cargo.toml"), manifest("locked", "[workspace]\n")).unwrap();
    cargo(&alone, &["generate-lockfile"]);
    cargo(&alone, &["update", "--package", "itoa", "--precise", "1.0.17"]);
    fs::copy(alone.join("Cargo.lock"), locked.join("function/Cargo.lock")).unwrap();
    assert_eq!(ask(&build(&locked)), "locked");
    let used = fs::read_to_string(locked.join("function/Cargo.lock")).unwrap();
    assert!(used.contains("name = \"itoa\"\nversion = \"1.0.17\""), "{used}");

    // Where the template lies when it was pulled, cargo works as in any crate; here outside of this workspace.
    let pulled = lay_out("pulled", &[]);
    let manifest = fs::read_to_string(pulled.join("Cargo.toml")).unwrap();
    fs::write(pulled.join("Cargo.toml"), manifest + "\n[workspace]\n").unwrap();
    cargo(&pulled, &["build", "--locked", "--no-default-features"]);
    assert_eq!(ask(&target().join("debug/watchdog")), "hello\n");
}
