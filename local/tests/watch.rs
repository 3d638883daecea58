//! `--watch`: a function follows its sources, and an old one serves until a new one does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use local::{Local, Options};
use support::{Place, Seen, until};

const FUNCTION: &str = "  echo:\n    lang: fake\n    handler: ./echo\n    image: echo\n    secrets: [oauth2-token]\n";

/// Stands for the template's: a handler that says `error` does not compile.
const BUILD: &str = "#!/bin/sh\nset -e\n\
    ! grep error function/code >&2 || exit 101\n\
    printf '#!/bin/sh\\nversion=%s exec %s\\n' \"$(cat function/code)\" \"$(cat function/program)\" >built\n\
    chmod +x built\n\
    echo \"$PWD/built\"\n";

fn project(code: &str) -> Place {
    let place = Place::new(FUNCTION);
    let at = |path: &str| place.path().join(path);
    std::fs::create_dir_all(at("template/fake")).unwrap();
    std::fs::create_dir(at("echo")).unwrap();
    std::fs::write(at("template/fake/template.yml"), "language: fake\n").unwrap();
    std::fs::write(at("template/fake/build.sh"), BUILD).unwrap();
    std::fs::write(at("echo/program"), env!("CARGO_BIN_EXE_sample-function")).unwrap();
    save(place.path(), code);
    place
}

/// As editors do: beside it, then renamed.
fn save(place: &Path, code: &str) {
    std::fs::write(place.join("echo/.code.new"), code).unwrap();
    std::fs::rename(place.join("echo/.code.new"), place.join("echo/code")).unwrap();
}

async fn up(place: &Place) -> Local {
    Local::start(Options { watch: true, ..place.options(&[]) }).await.unwrap()
}

/// The version that answers, if one does.
async fn version(local: &Local) -> Option<String> {
    let answer = support::get(format!("{}/function/echo", local.urls().gateway)).await.unwrap();
    if answer.status() != 200 {
        return None;
    }
    Some(Seen::of(answer).await.environment()["version"].to_owned())
}

async fn page(local: &Local) -> String {
    support::get(format!("{}/local/build/echo", local.urls().gateway)).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn a_change_of_the_handler_replaces_the_function_and_leaves_the_secrets() {
    let place = project("one");
    let local = up(&place).await;
    assert_eq!(version(&local).await.as_deref(), Some("one"));
    std::fs::write(local.secret("oauth2-token"), "of a grant").unwrap();
    save(place.path(), "two");
    until(async || version(&local).await.unwrap() == "two").await;
    assert_eq!(std::fs::read_to_string(local.secret("oauth2-token")).unwrap(), "of a grant");
    local.stop().await;
}

#[tokio::test]
async fn code_that_does_not_compile_leaves_the_old_function_serving_and_shows_the_compilers_output() {
    let place = project("one");
    let local = up(&place).await;
    assert!(page(&local).await.contains("succeeded"));
    save(place.path(), "error: expected `;` <here>");
    until(async || page(&local).await.contains("error: expected `;` &lt;here&gt;")).await;
    assert_eq!(version(&local).await.as_deref(), Some("one"));
    save(place.path(), "three");
    until(async || version(&local).await.unwrap() == "three").await;
    assert!(page(&local).await.contains("succeeded"));
    local.stop().await;
}

#[tokio::test]
async fn a_function_that_has_never_compiled_is_a_page_in_a_browser_until_it_does() {
    let place = project("error: from the start");
    let local = up(&place).await;
    let url = format!("{}/function/echo", local.urls().gateway);
    let browser = reqwest::Client::new().get(&url).header("accept", "text/html,*/*;q=0.8").send().await.unwrap();
    assert_eq!(browser.status(), 503);
    assert!(browser.text().await.unwrap().contains("error: from the start"));
    let machine = support::get(&url).await.unwrap();
    assert_eq!(
        (machine.status().as_u16(), machine.text().await.unwrap().as_str()),
        (503, "No endpoints available for: echo.\n")
    );
    save(place.path(), "fine");
    until(async || version(&local).await.as_deref() == Some("fine")).await;
    local.stop().await;
}
