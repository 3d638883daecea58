//! `/openapi.json`: what the function answers, for machines.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::header;
use serde_json::{Value, json};

use super::State as AppState;
use crate::pages::Base;

/// Every route, method, parameter, body and answer. A test holds it and the router against each other.
const DESCRIPTION: &str = include_str!("openapi.json");

/// The description with the function's own address in it. Made once: to read and write it anew takes a millisecond.
#[derive(Debug)]
pub(super) struct Description(Bytes);

impl Description {
    pub(super) fn of(base: &Base) -> Self {
        // A test reads the very same text.
        let mut description: Value = serde_json::from_str(DESCRIPTION).unwrap_or_default();
        if let Some(servers) = description.get_mut("servers") {
            *servers = json!([{ "url": base.to_string() }]);
        }
        Self(description.to_string().into())
    }
}

/// `GET`: the description.
pub(super) async fn describe(State(app): AppState) -> Response {
    let Description(text) = app.description.get_or_init(|| Description::of(&app.base));
    ([(header::CONTENT_TYPE, "application/json")], text.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use axum::body::Body;
    use http::{Method, Request, StatusCode};
    use tower::ServiceExt;

    use super::*;
    use crate::{Config, Function};

    /// The methods of every path of the description.
    fn described() -> BTreeMap<String, BTreeSet<String>> {
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        let methods = |path: &Value| path.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        description["paths"].as_object().unwrap().iter().map(|(path, item)| (path.clone(), methods(item))).collect()
    }

    /// The function with nothing behind it.
    async fn router() -> (axum::Router, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["oauth2-client-id", "oauth2-client-secret", "basic-auth-password"] {
            std::fs::write(folder.path().join(name), "value").unwrap();
        }
        for name in ["oauth2-access-token", "oauth2-refresh-token"] {
            std::fs::write(folder.path().join(name), "empty").unwrap();
        }
        let config = Config::read(|name| match name {
            "provider" => Some("gumroad".into()),
            "public_url" => Some("https://g.example/function/etl-oauth".into()),
            "gateway_url" | "token_url" => Some("http://127.0.0.1:1".into()),
            "store" => Some("file".into()),
            "store_path" => Some(folder.path().join("store").display().to_string()),
            "allow_ephemeral_store" => Some("true".into()),
            "secret_mount_path" => Some(folder.path().display().to_string()),
            _ => None,
        });
        std::fs::write(folder.path().join("etl-oauth-seal-keys"), "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
            .unwrap();
        (Function::new(config.unwrap()).await.unwrap().router(), folder)
    }

    #[tokio::test]
    async fn every_route_is_described_and_every_described_route_is_there() {
        let described = described();
        // A router does not tell its routes; the source that makes it does.
        let routed: BTreeSet<String> = include_str!("mod.rs")
            .split(".route(")
            .skip(1)
            .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
            // A path of several segments is one parameter here.
            .map(|path| path.replace("{*", "{"))
            .collect();
        assert_eq!(described.keys().cloned().collect::<BTreeSet<_>>(), routed);

        let (router, _folder) = router().await;
        for (path, methods) in described {
            let request = Request::builder().method("TRACE").uri(&path).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            let allow = answer.headers()[header::ALLOW].to_str().unwrap();
            // A GET answers HEAD as well, which needs no word of its own.
            let allowed: BTreeSet<String> =
                allow.split(',').map(|method| method.trim().to_owned()).filter(|method| method != "HEAD").collect();
            let methods = methods.into_iter().filter(|method| method != "HEAD").collect::<BTreeSet<_>>();
            assert_eq!(allowed, methods, "{path}");
        }
    }

    #[tokio::test]
    async fn it_is_served_with_the_functions_own_address() {
        let (router, _folder) = router().await;
        let request = Request::builder().method(Method::GET).uri("/openapi.json").body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let description: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(description["servers"][0]["url"], "https://g.example/function/etl-oauth");
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
