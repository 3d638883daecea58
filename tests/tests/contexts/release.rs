//! Functions built in release mode and started behind `local`. Minutes of compiling.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use local::{Console, Local, Options};
use reqwest::Client;
use tests::Browser;

use crate::context::{checkout, copy, run, write};
use crate::private::repository;

/// A project of its own, with the template of this checkout: `hello` is new from the starter; `etl-oauth` is the
/// function as it is here; `messy` is the same with all its features, a name that the template has too, a workspace, and
/// what a folder gathers; `orders` is the example of a job of one's own, which has the crates from a repository, as the
/// README says.
fn project(folder: &Path) {
    copy(&checkout().join("template"), &folder.join("template"));
    copy(&checkout().join("template/rust-hyper/function"), &folder.join("hello"));
    copy(&checkout().join("etl-oauth"), &folder.join("etl-oauth"));
    let messy = folder.join("messy");
    copy(&folder.join("etl-oauth"), &messy);
    let manifest = fs::read_to_string(messy.join("Cargo.toml")).unwrap();
    let (named, library) =
        ("name = \"etl-oauth\"", "\n[workspace]\n\n[lib]\nname = \"handler_of_mine\"\npath = \"code/lib.rs\"\n");
    assert!(manifest.contains(named));
    let manifest = manifest.replacen(named, "name = \"watchdog\"", 1);
    let program = "[[bin]]\nname = \"etl-oauth\"\n";
    assert!(manifest.contains(program));
    let manifest = manifest.replace(program, &format!("{program}path = \"code/bin/etl-oauth.rs\"\n"));
    write(&messy.join("Cargo.toml"), &(manifest + library));
    // The starter's src/lib.rs comes back into the context, and must not be taken for this one.
    fs::rename(messy.join("src"), messy.join("code")).unwrap();
    write(&messy.join("target/Cargo.toml"), "no manifest");
    write(&messy.join("target/debug/junk.rs"), "no Rust");

    let orders = folder.join("orders");
    copy(&folder.join("hello"), &orders);
    let example = fs::read_to_string(checkout().join("etl-oauth/examples/orders/lib.rs")).unwrap();
    write(&orders.join("src/lib.rs"), &example);
    let address = format!("file://{}", repository(folder).display());
    for arguments in [
        &["etl-oauth", "--git", &address][..],
        &["token-keeper", "--git", &address, "--no-default-features"],
        &["serde", "--features", "derive"],
        &["serde_json"],
    ] {
        run("cargo", &orders, &[&["add", "--quiet"], arguments].concat());
    }
    // The versions that the crates were tested with, and that the function beside this one is built of.
    fs::copy(checkout().join("etl-oauth/Cargo.lock"), orders.join("Cargo.lock")).unwrap();

    let stack = fs::read_to_string(checkout().join("stack.yaml")).unwrap();
    let (head, etl_oauth) = stack.split_once("  etl-oauth:\n").expect("stack.yaml has the function");
    let messy = etl_oauth.replace("./etl-oauth", "./messy").replace("/function/etl-oauth", "/function/messy");
    let features =
        ["file", "nats", "postgres", "mail", "s3", "gcs", "azure"].map(|feature| format!("handler/{feature}"));
    let test = "      TEST: \"false\"\n";
    assert!(messy.contains(test));
    let messy = messy.replace(test, &format!("{test}      FEATURES: jwt,{}\n", features.join(",")));
    let orders = etl_oauth
        .replace("./etl-oauth", "./orders")
        .replace("/function/etl-oauth", "/function/orders")
        // The results are looked at without credentials.
        .replace("min_run_interval: 10s", "min_run_interval: 0s\n      show_result: \"true\"");
    let hello = "    lang: rust-hyper\n    handler: ./hello\n    image: hello:latest\n";
    let all = format!("{head}  etl-oauth:\n{etl_oauth}\n  messy:\n{messy}\n  orders:\n{orders}\n  hello:\n{hello}");
    write(&folder.join("stack.yaml"), &all);
}

/// One test, since the builds would only wait for each other.
#[tokio::test]
async fn the_functions_build_in_release_mode_and_serve_whatever_their_folders_look_like() {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path());
    // What was compiled once stays for the next run.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    std::os::unix::fs::symlink(target, folder.path().join("target")).unwrap();
    let options = Options {
        project: folder.path().to_owned(),
        dir: folder.path().to_owned(),
        console: Console::Stderr,
        ..Options::default()
    };
    let names = ["hello", "etl-oauth", "messy", "orders"].map(str::to_owned);
    let programs = local::build(&options, &names).await.unwrap();
    let executables: BTreeMap<String, PathBuf> = names.into_iter().zip(programs).collect();
    for (name, program) in &executables {
        let program = fs::read(program).unwrap();
        // Without link-time optimisation, which would cost minutes of every build: bench/results/profiles.md.
        assert!(program.len() < 48 << 20, "{name}: {} bytes", program.len());
        assert!(!program.windows(9).any(|bytes| bytes == b"\0.symtab\0"), "{name} is not stripped");
    }

    let local = Local::start(Options { executables, ..options }).await.unwrap();
    let at = |path: &str| format!("{}/function/{path}", local.urls().gateway);
    let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    assert_eq!(http.get(at("hello")).send().await.unwrap().status(), 200);
    let operator = fs::read_to_string(local.secret("etl-oauth-operator")).unwrap();
    let browser = Browser::of_operator(operator.trim());
    for name in ["etl-oauth", "messy", "orders"] {
        let answer = http.get(at(name)).send().await.unwrap();
        assert_eq!(answer.status(), 409, "{name}");
        let answer: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(answer["enable_url"], at(&format!("{name}/enable")));
        let page = browser.open(&at(&format!("{name}/enable"))).await.body;
        assert!(page.contains("Gumroad"), "{name}: {page}");
    }

    // A job of one's own, with an input.
    let consent = browser.submit(&browser.open(&at("orders/enable")).await, &[]).await;
    let done = browser.submit(&consent, &[("decision", "allow")]).await;
    assert_eq!(done.status, 200, "{}", done.body);
    for (input, count) in [("", 10), (r#"{"after":"2100-01-01"}"#, 0)] {
        let answer = http.post(at("orders")).body(input).send().await.unwrap();
        let answer: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(answer, serde_json::json!({ "count": count }), "{input}");
    }
    local.stop().await;
}
