//! Attacks over real sockets: one test each. Those against the doors of the job, and the
//! floods of runs and of wrong passwords, are in `doors.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

mod authorisation;
mod floods;
mod gateway;
mod pages;
mod secrets;
mod strangers;

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::{Client, Method, StatusCode, redirect::Policy};
use serde_json::{Value, json};
use tests::{Browser, Fleet, Page, Rogue, Stage, rogue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::Url;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// Markup that a browser would run, in a tag and out of an attribute.
const SCRIPT: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>";

/// The first visitor may authorise.
async fn open() -> Stage {
    Stage::with(PROGRAM, &[("enable_auth", "first_visit")], |_| {}).await
}

/// As shipped.
async fn shipped() -> Stage {
    Stage::start(PROGRAM).await
}

/// The function over a file store, without a gateway between.
async fn alone(size: usize, folder: &Path, variables: &[(&str, &str)]) -> Fleet {
    let path = folder.join("tokens").display().to_string();
    let store = [("store", "file"), ("store_path", &*path), ("allow_ephemeral_store", "true")];
    Fleet::start(PROGRAM, size, &[&store, variables].concat(), &[]).await
}

/// Client without cookies that follows nothing.
fn raw() -> Client {
    Client::builder().redirect(Policy::none()).build().unwrap()
}

/// The address that the provider sends this browser back to, not yet visited.
async fn callback_of(stage: &Stage, browser: &Browser) -> Url {
    let consent = browser.enable(stage).await;
    browser.submit_once(&consent, &[("decision", "allow")]).await.location().unwrap()
}

fn query(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

/// That address with other parameters.
fn with(callback: &Url, parameters: &[(&str, &str)]) -> String {
    let mut url = callback.clone();
    url.query_pairs_mut().clear().extend_pairs(parameters);
    url.into()
}

/// No token request has been made.
fn nothing_asked(stage: &Stage) {
    assert_eq!(stage.provider().log()["outcomes"], json!({}), "a token request was made");
}

fn error_of(page: &Page) -> (u16, bool) {
    (page.status.as_u16(), page.body.contains("<h1"))
}
