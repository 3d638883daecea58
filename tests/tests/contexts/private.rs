//! Dependencies that are not on crates.io: a registry and repositories that ask who is there, and this repository itself,
//! which a function with a job of its own depends on.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::context::{Builder, Step, checkout, commit, copy, run, write};

/// Serves the files of a folder to those who say the right `Authorization`, or to all.
async fn serve(folder: PathBuf, authorization: Option<String>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::new((folder, authorization));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let served = Arc::clone(&served);
            let answer = service_fn(move |request: Request<Incoming>| {
                let served = Arc::clone(&served);
                async move { Ok::<_, std::convert::Infallible>(answer(&served.0, served.1.as_deref(), &request)) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    address
}

fn answer(folder: &Path, authorization: Option<&str>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let said = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let (status, body) = match fs::read(folder.join(request.uri().path().trim_start_matches('/'))) {
        _ if authorization.is_some() && said != authorization => (401, Vec::new()),
        Ok(body) => (200, body),
        Err(_) => (404, Vec::new()),
    };
    let answer = Response::builder().status(status).header("www-authenticate", "Basic realm=\"private\"");
    answer.body(Full::new(body.into())).unwrap()
}

/// A crate of no dependencies.
fn private_crate(folder: &Path) {
    write(
        &folder.join("Cargo.toml"),
        "[package]\nname = \"company-crate\"\nversion = \"1.2.3\"\nedition = \"2024\"\n\n[workspace]\n",
    );
    write(&folder.join("src/lib.rs"), "//! The company's own.\n");
}

/// Like `Builder::fetch`, while servers run.
async fn fetch(builder: &Arc<Builder>, name: &'static str, files: Vec<(&'static str, String)>) -> Step {
    let builder = Arc::clone(builder);
    tokio::task::spawn_blocking(move || {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        builder.fetch(&builder.context(name, &files))
    })
    .await
    .unwrap()
}

fn manifest(name: &str, dependency: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\naxum = {{ version = \"0.8\", default-features = false }}\n{dependency}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_registry_gets_its_token_from_the_secret_of_the_build() {
    let folder = tempfile::tempdir().unwrap();
    let (source, index) = (folder.path().join("source"), folder.path().join("index"));
    private_crate(&source);
    run("cargo", &source, &["package", "--quiet", "--no-verify", "--offline", "--target-dir", "target"]);
    let packed = fs::read(source.join("target/package/company-crate-1.2.3.crate")).unwrap();
    let address = serve(index.clone(), Some("a token".to_owned())).await;
    let sum: String = digest(&SHA256, &packed).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    write(
        &index.join("co/mp/company-crate"),
        &format!(
            r#"{{"name":"company-crate","vers":"1.2.3","deps":[],"cksum":"{sum}","features":{{}},"yanked":false}}"#
        ),
    );
    write(
        &index.join("config.json"),
        &format!(r#"{{"dl":"http://{address}/{{crate}}-{{version}}.crate","auth-required":true}}"#),
    );
    fs::write(index.join("company-crate-1.2.3.crate"), packed).unwrap();

    let files = vec![
        ("Cargo.toml", manifest("registry", "company-crate = { version = \"1\", registry = \"company\" }")),
        (".cargo/config.toml", format!("[registries.company]\nindex = \"sparse+http://{address}/\"\n")),
    ];
    let builder = Arc::new(Builder::new());
    let without = fetch(&builder, "without", files.clone()).await;
    assert!(!without.ok && without.text.contains("no token found for `company`"), "{}", without.text);
    // Where the Dockerfile mounts the secret.
    write(&builder.home().join("cargo/credentials.toml"), "[registries.company]\ntoken = \"a token\"\n");
    let step = fetch(&builder, "registry", files).await.passed();
    assert!(step.newly_resolved().is_some_and(|line| line.contains("company-crate 1.2.3")), "{}", step.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_is_cloned_with_the_credentials_of_the_build() {
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("crate");
    private_crate(&repository);
    commit(&repository);
    run("git", &repository, &["update-server-info"]);
    let authorization = format!("Basic {}", BASE64_STANDARD.encode("robot:secret"));
    let address = serve(folder.path().to_owned(), Some(authorization)).await;

    let builder = Arc::new(Builder::new().with("GIT_TERMINAL_PROMPT", "0"));
    let over_http = format!("company-crate = {{ git = \"http://{address}/crate/.git\" }}");
    let files = vec![("Cargo.toml", manifest("over-http", &over_http))];
    let without = fetch(&builder, "without", files.clone()).await;
    assert!(!without.ok, "{}", without.text);
    write(&builder.home().join(".git-credentials"), &format!("http://robot:secret@{address}\n"));
    fetch(&builder, "over-http", files).await.passed();

    // Over ssh, by git's own program and so with the keys and hosts that it finds: here it only goes to this machine.
    let ssh = folder.path().join("bin/ssh");
    write(&ssh, "#!/bin/sh\nwhile [ \"$1\" != git@company.test ]; do shift; done\nshift\nexec sh -c \"$*\"\n");
    run("chmod", folder.path(), &["+x", "bin/ssh"]);
    let builder = Arc::new(Builder::new().with("GIT_SSH", ssh.to_str().unwrap()).with("GIT_SSH_VARIANT", "simple"));
    let over_ssh = format!("company-crate = {{ git = \"ssh://git@company.test{}/.git\" }}", repository.display());
    fetch(&builder, "over-ssh", vec![("Cargo.toml", manifest("over-ssh", &over_ssh))]).await.passed();
}

/// As the README has it: the starter, with the crates of this repository from a clone.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_ones_own_takes_the_crates_from_a_clone_by_path_and_by_url() {
    let folder = tempfile::tempdir().unwrap();
    let clone = repository(folder.path());
    run("git", &clone, &["update-server-info"]);
    let address = serve(folder.path().to_owned(), None).await;
    let builder = Arc::new(Builder::new());
    let lock = fs::read_to_string(checkout().join("etl-oauth/Cargo.lock")).unwrap();
    for (name, url) in
        [("by-path", format!("file://{}", clone.display())), ("by-url", format!("http://{address}/repository/.git"))]
    {
        let dependency = format!(
            "etl-oauth = {{ git = \"{url}\" }}\ntoken-keeper = {{ git = \"{url}\", default-features = false }}"
        );
        let files = vec![("Cargo.toml", manifest("orders", &dependency)), ("Cargo.lock", lock.clone())];
        let step = fetch(&builder, name, files).await.passed();
        let new = step.newly_resolved().unwrap_or_default().split(": ").last().unwrap_or_default().to_owned();
        assert!(
            new.split(", ").all(|package| package.starts_with("etl-oauth ") || package.starts_with("token-keeper ")),
            "{new}"
        );
    }
}

/// A clone of this checkout, with the crates as they are here.
pub(crate) fn repository(folder: &Path) -> PathBuf {
    let clone = folder.join("repository");
    for part in ["etl-oauth", "template", "local", "tests", "fuzz"] {
        copy(&checkout().join(part), &clone.join(part));
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(checkout().join(file), clone.join(file)).unwrap();
    }
    commit(&clone);
    clone
}
