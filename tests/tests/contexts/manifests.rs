//! The step that a change of code does not repeat: it settles the versions and downloads them, and sees manifests alone.
//! Seconds each, for whatever a function's folder looks like.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::context::{Builder, checkout, commit, copy, packages, run};

const LIBRARY: &str = "//! A function.";

/// A function's manifest with axum, and `more` behind its dependencies.
fn manifest(name: &str, more: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\naxum = {{ version = \"0.8\", default-features = false }}\n{more}"
    )
}

/// A crate in the function's folder.
fn shared(more: &str) -> String {
    format!("[package]\nname = \"shared\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{more}")
}

fn tested() -> BTreeSet<String> {
    packages(&checkout().join("Cargo.lock"))
}

#[test]
fn the_starter_is_built_of_what_the_template_was_tested_with() {
    let builder = Builder::new();
    let starter = builder.fetch(&builder.context("starter", &[])).passed();
    assert_eq!(starter.newly_resolved(), None);
    let locked = packages(&starter.lock());
    assert!(locked.len() > 50 && locked.is_subset(&tested()), "{:?}", locked.difference(&tested()));

    // `cargo test` in the folder leaves a lock file, here one that was newer on purpose in one line and older in another.
    let handler = builder.home().join("tested");
    copy(&checkout().join("template/rust-hyper/function"), &handler);
    run("cargo", &handler, &["update", "--quiet", "--package", "itoa", "--precise", "1.0.17"]);
    let after = builder.fetch(&builder.context_of("tested", &handler)).passed();
    assert_eq!(after.newly_resolved(), None);
    let different: Vec<_> = packages(&after.lock()).difference(&locked).cloned().collect();
    assert_eq!(different, ["itoa 1.0.17"], "only what the function's own lock file says otherwise");
}

#[test]
fn etl_oauth_is_built_of_its_lock_file() {
    let builder = Builder::new();
    let step = builder.fetch(&builder.context_of("etl-oauth", &checkout().join("etl-oauth"))).passed();
    assert_eq!(step.newly_resolved(), None);
    let own = packages(&checkout().join("etl-oauth/Cargo.lock"));
    let template = packages(&checkout().join("template/rust-hyper/Cargo.lock"));
    let used = packages(&step.lock());
    let unknown: Vec<_> =
        used.iter().filter(|package| !own.contains(*package) && !template.contains(*package)).collect();
    assert!(used.len() > 200 && unknown.is_empty(), "{unknown:?}");
}

#[test]
fn a_copy_of_etl_oauth_may_take_a_name_of_its_own() {
    let builder = Builder::new();
    let handler = builder.home().join("expenses");
    copy(&checkout().join("etl-oauth"), &handler);
    let manifest = fs::read_to_string(handler.join("Cargo.toml")).unwrap();
    let renamed = manifest.replacen("name = \"etl-oauth\"", "name = \"expenses\"", 1);
    assert_ne!(renamed, manifest);
    fs::write(handler.join("Cargo.toml"), renamed).unwrap();
    let step = builder.fetch(&builder.context_of("expenses", &handler)).passed();
    assert_eq!(step.newly_resolved(), None);
}

#[test]
fn every_shape_of_folder_will_do() {
    let builder = Builder::new();
    let fetch = |name: &str, files: &[(&str, &str)]| builder.fetch(&builder.context(name, files));

    // A program beside the library, by name alone; a build script with a dependency; things that lie about.
    let odd = manifest(
        "odd",
        "roman = \"0.1\"\n[build-dependencies]\nautocfg = \"1\"\n[[bin]]\nname = \"helper\"\n[[example]]\nname = \"shown\"\n\
         [[bench]]\nname = \"timed\"\nharness = false\n[lib]\nname = \"oddly\"\npath = \"code/lib.rs\"\n",
    );
    let odd = fetch(
        "odd",
        &[("Cargo.toml", &odd), ("code/lib.rs", LIBRARY), ("build.rs", "fn main() {}"), ("target/Cargo.toml", "junk")],
    )
    .passed();
    // In no lock file: newly resolved, and said so. All the rest stays.
    assert!(odd.newly_resolved().is_some_and(|line| line.contains("roman 0.1")), "{}", odd.text);
    let surplus: Vec<_> = packages(&odd.lock()).difference(&tested()).cloned().collect();
    assert!(surplus.iter().all(|package| package.starts_with("roman ")), "{surplus:?}");

    // A crate inside, as `configuration.copy` lays it, too; one that the function's own workspace lists; one that is a
    // workspace itself.
    let nested = manifest("nested", "shared = { path = \"shared\" }\n");
    fetch("nested", &[("Cargo.toml", &nested), ("shared/Cargo.toml", &shared("[dependencies]\nitoa = \"1\"\n"))])
        .passed();
    let root = manifest(
        "root",
        "shared = { path = \"crates/shared\" }\n[workspace]\nresolver = \"3\"\nmembers = [\n    \"crates/*\",\n]\n\
         [workspace.package]\nrust-version = \"1.95\"\n[workspace.dependencies]\nitoa = \"1\"\n",
    );
    let member = shared("rust-version.workspace = true\n[dependencies]\nitoa = { workspace = true }\n");
    fetch("root", &[("Cargo.toml", &root), ("crates/shared/Cargo.toml", &member)]).passed();
    let apart = shared("[workspace]\n");
    fetch("apart", &[("Cargo.toml", &nested.replace("nested", "apart")), ("shared/Cargo.toml", &apart)]).passed();
    // A workspace without members, of the template's own name.
    fetch("same", &[("Cargo.toml", &manifest("watchdog", "[workspace]\n"))]).passed();

    // Checked out on Windows.
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let lock = fs::read_to_string(checkout().join("template/rust-hyper/function/Cargo.lock")).unwrap();
    let windows = crlf(&manifest("windows", "[[bin]]\nname = \"helper\"\n[profile.release]\nopt-level = 3\n"));
    let step = fetch("windows", &[("Cargo.toml", &windows), ("Cargo.lock", &crlf(&lock))]).passed();
    assert_eq!(step.newly_resolved(), None);
}

#[test]
fn an_older_lock_file_is_kept_and_completed() {
    let builder = Builder::new();
    let handler = builder.home().join("older");
    copy(&checkout().join("template/rust-hyper/function"), &handler);
    let update = |package: &str, version| {
        run("cargo", &handler, &["update", "--quiet", "--package", package, "--precise", version])
    };
    update("itoa", "1.0.10");
    update("tower", "0.5.2");
    // Something that was never locked has come since.
    let text = fs::read_to_string(handler.join("Cargo.toml")).unwrap();
    fs::write(handler.join("Cargo.toml"), text.replace("[dependencies]", "[dependencies]\nroman = \"0.1\"")).unwrap();
    let step = builder.fetch(&builder.context_of("older", &handler)).passed();
    let used = packages(&step.lock());
    assert!(used.contains("itoa 1.0.10") && used.contains("tower 0.5.2"), "{used:?}");
    assert!(
        step.newly_resolved().is_some_and(|line| line.contains("roman 0.1") && !line.contains("hyper")),
        "{}",
        step.text
    );
}

#[test]
fn patches_profiles_and_settings_of_the_function_count() {
    let builder = Builder::new();
    let itoa = "[package]\nname = \"itoa\"\nversion = \"1.0.99\"\nedition = \"2024\"\n";
    let own = manifest(
        "own",
        "itoa = \"1\"\n[patch.crates-io]\nitoa = { path = \"forks/itoa\" }\n[profile.release]\nopt-level = \"z\"\n",
    );
    let files = [("Cargo.toml", own.as_str()), ("forks/itoa/Cargo.toml", itoa)];
    let step = builder.fetch(&builder.context("own", &files)).passed();
    let lock = fs::read_to_string(step.lock()).unwrap();
    assert!(lock.contains("name = \"itoa\"\nversion = \"1.0.99\"\n\n"), "the fork is not used: {lock}");
    assert!(!step.text.contains("warning"), "{}", step.text);

    // What the compiler gets: the function's own option, and the template's where it has none.
    let options = |context: &Path, backtrace: &str| {
        let shim = builder.home().join("shim");
        crate::context::write(
            &shim.join("cargo"),
            "#!/bin/sh\n[ $1 = build ] || exit 0\nenv | grep CARGO_PROFILE_; env | grep RUSTFLAGS\n",
        );
        run("chmod", &shim, &["+x", "cargo"]);
        let path = format!("{}:{}", shim.display(), std::env::var("PATH").unwrap());
        let builder = Builder::new().with("PATH", &path).with("BACKTRACE", backtrace);
        builder.script(context, "build", context).passed().text
    };
    let text = options(&builder.context("options", &files), "false");
    assert!(
        text.contains("CARGO_PROFILE_RELEASE_STRIP=symbols") && !text.contains("CARGO_PROFILE_RELEASE_DEBUG"),
        "{text}"
    );
    assert!(text.contains("CARGO_PROFILE_RELEASE_LTO=") && !text.contains("CARGO_PROFILE_RELEASE_OPT_LEVEL"), "{text}");
    assert!(text.contains("RUSTFLAGS= -C target-feature=+crt-static") && !text.contains("relocation-model"), "{text}");

    // Backtraces have functions, files and lines.
    let text = options(&builder.context("backtrace", &files), "true");
    assert!(text.contains("CARGO_PROFILE_RELEASE_STRIP=none\n"), "{text}");
    assert!(text.contains("CARGO_PROFILE_RELEASE_DEBUG=line-tables-only\n"), "{text}");

    // A mirror: nothing is asked of crates.io any more.
    let mirror = "[source.crates-io]\nreplace-with = \"mirror\"\n[source.mirror]\nregistry = \"sparse+http://127.0.0.1:1/\"\n[net]\nretry = 0\n";
    let files = [("Cargo.toml", manifest("mirrored", "")), (".cargo/config.toml", mirror.to_owned())];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    let empty = Builder::new();
    let step = empty.fetch(&empty.context("mirrored", &files));
    assert!(!step.ok && step.text.contains("127.0.0.1:1/"), "{}", step.text);

    // A toolchain of the function's own, which this machine does not have.
    let toolchain = "[toolchain]\nchannel = \"1.94.7\"\n";
    let step = builder.fetch(&builder.context("older-rust", &[("rust-toolchain.toml", toolchain)]));
    assert!(!step.ok && step.text.contains("1.94.7"), "{}", step.text);
}

#[test]
fn what_lies_outside_the_folder_is_refused_in_one_sentence_with_the_way_out() {
    let builder = Builder::new();
    let refused =
        |name: &str, files: &[(&str, &str)], with: &str| builder.fetch(&builder.context(name, files)).refused(with);
    let outside = manifest("outside", "shared = { path = \"../shared\" }\n");
    refused("outside", &[("Cargo.toml", &outside)], "path = \"../shared\" lies outside the handler folder");
    let deeper = shared("[dependencies]\nother = { version = \"1\", path = '../../other' }\n");
    let nested = manifest("nested", "shared = { path = \"shared\" }\n");
    refused(
        "deeper",
        &[("Cargo.toml", &nested), ("shared/Cargo.toml", &deeper)],
        "function/shared/Cargo.toml: path = \"../../other\"",
    );
    let absolute = manifest("absolute", "shared = { path = \"/srv/shared\" }\n");
    refused("absolute", &[("Cargo.toml", &absolute)], "configuration.copy");
    let inherited = manifest("inherited", "").replace("edition = \"2024\"", "edition.workspace = true");
    refused("inherited", &[("Cargo.toml", &inherited)], "function/Cargo.toml:4:edition.workspace = true");
    refused("virtual", &[("Cargo.toml", "[workspace]\nmembers = [\"one\"]\n")], "no [package]");

    // What lies inside is not, nor what is no dependency.
    let nested = nested.replace(
        "[dependencies]",
        "# edition.workspace = true\n[package.metadata.tool]\npath = \"/srv\"\n[dependencies]\n# old = { path = \"../old\" }",
    );
    let inside = shared("[dependencies]\nother = { path = \"../other\" }\n");
    let other = shared("").replace("shared", "other");
    let files = [("Cargo.toml", nested.as_str()), ("shared/Cargo.toml", &inside), ("other/Cargo.toml", &other)];
    builder.fetch(&builder.context("inside", &files)).passed();
}

#[test]
fn two_functions_named_handler_in_one_folder_are_told_to_take_names() {
    let builder = Builder::new();
    let both = manifest("handler", "second = { path = \"second\", package = \"handler\" }\n");
    let second = manifest("handler", "");
    let files = [("Cargo.toml", both.as_str()), ("second/Cargo.toml", &second)];
    builder.fetch(&builder.context("both", &files)).refused("two packages are called handler");
}

#[test]
fn a_clone_made_on_windows_has_the_line_ends_that_linux_needs() {
    let folder = tempfile::tempdir().unwrap();
    let (origin, clone) = (folder.path().join("origin"), folder.path().join("clone"));
    copy(&checkout().join("template"), &origin.join("template"));
    fs::copy(checkout().join(".gitattributes"), origin.join(".gitattributes")).unwrap();
    commit(&origin);
    let arguments = ["-c", "core.autocrlf=true", "clone", "--quiet", origin.to_str().unwrap(), clone.to_str().unwrap()];
    run("git", folder.path(), &arguments);
    for file in ["build.sh", "Dockerfile", "Cargo.toml", "Cargo.lock", "function/Cargo.toml"] {
        let text = fs::read_to_string(clone.join("template/rust-hyper").join(file)).unwrap();
        assert!(!text.contains('\r'), "{file}");
    }
}
