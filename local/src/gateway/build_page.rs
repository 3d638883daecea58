//! The compiler's output of a function that does not compile, as a page. OpenFaaS has no such page: its path begins with
//! `/local/`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::response::{Html, IntoResponse as _};
use maud::{DOCTYPE, Markup, html};

use super::Shared;
use crate::functions::Broken;

const STYLE: &str = "\
body{font:16px/1.5 system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem}
pre{overflow:auto;padding:1rem;background:#1e1e1e;color:#eee}";

/// `GET /local/build/{name}`
pub(super) async fn show(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response<Body> {
    if shared.functions.log(&name).is_none() {
        return StatusCode::NOT_FOUND.into_response();
    }
    match shared.functions.broken(&name) {
        Some(broken) => broken_page(&name, &broken, StatusCode::OK),
        None => page(&name, &html! { p { "The last build succeeded." } }),
    }
}

/// The page in place of the answer of a function that has never compiled, for browsers.
pub(super) fn instead(shared: &Shared, name: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    let broken = shared.functions.broken(name).filter(|_| accept.contains("text/html"))?;
    Some(broken_page(name, &broken, StatusCode::SERVICE_UNAVAILABLE))
}

fn broken_page(name: &str, broken: &Broken, status: StatusCode) -> Response<Body> {
    let content = html! {
        p {
            "The build of " (broken.at.strftime("%H:%M:%S UTC")) " failed. The version before it, if there is one, goes on "
            "serving. This page reloads itself."
        }
        pre { (broken.output) }
    };
    let mut response = page(name, &content);
    *response.status_mut() = status;
    response
}

fn page(name: &str, content: &Markup) -> Response<Body> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content="1";
                title { "Build of " (name) }
                style { (STYLE) }
            }
            body { h1 { "Build of " (name) } (content) }
        }
    };
    Html(page.into_string()).into_response()
}
