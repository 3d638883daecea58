//! The examples of `providers/FORMAT.md`, each made into the requests that it stands for and the answers that it reads; and the
//! list of fields at its end.

use std::{fmt::Write as _, fs};

use aws_lc_rs::hmac;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use token_keeper::{
    grant::{self, Client, HttpResponse, TokenRequest},
    provider::{Definition, Overrides, Provider, TokenKind, Values},
    token::{FailureKind, Record, Secret},
};

use super::{REDIRECT, folder, is_current};

mod addresses;
mod answers;
mod api;
mod device;
mod fields;
mod requests;
mod signatures;
mod small;
mod statements;

/// The example of a section, of those that there are in it the one with this number.
fn example(heading: &str, number: usize) -> Definition {
    let format = fs::read_to_string(folder("providers/FORMAT.md")).unwrap();
    let section = format.split(&format!("\n### {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
    let section = section.split("\n### ").next().unwrap();
    let text = section.split("```toml\n").nth(number + 1).and_then(|rest| rest.split("```").next()).unwrap();
    Definition::read(heading, text).unwrap_or_else(|wrong| panic!("{}", wrong.join("\n")))
}

fn with(heading: &str, variables: &[(&str, &str)]) -> Provider {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let overrides = Overrides { variables, redirect_uri: Some(REDIRECT.into()), ..Overrides::default() };
    Provider::new("example", example(heading, 0), overrides).unwrap()
}

fn provider(heading: &str) -> Provider {
    with(heading, &[])
}

fn client() -> Client {
    Client { id: "id".into(), secret: Some(Secret::new("s")), ..Client::default() }
}

fn authorize(provider: &Provider) -> String {
    grant::authorize_url(provider, "id", "https://f.example/cb", "st", &Secret::new("v")).unwrap().into()
}

fn code(provider: &Provider) -> TokenRequest {
    grant::authorization_code(provider, &client(), "c", "r", None)
}

fn renewal(provider: &Provider) -> TokenRequest {
    grant::refresh_token(provider, &client(), &Secret::new("rt"))
}

fn raw(body: &str) -> HttpResponse {
    HttpResponse { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into(), at: Timestamp::UNIX_EPOCH }
}
