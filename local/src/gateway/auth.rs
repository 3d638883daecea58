//! Basic authentication of the REST API.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::Shared;

/// The secrets that hold the operator's credentials.
pub(crate) const USER: &str = "basic-auth-user";
pub(crate) const PASSWORD: &str = "basic-auth-password";

/// The operator's name where no secret sets one.
pub(crate) const DEFAULT_USER: &str = "admin";

pub(super) async fn operator_only(State(shared): State<Arc<Shared>>, request: Request<Body>, next: Next) -> Response {
    if is_operator(&shared, &request) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"Restricted\"")];
    (StatusCode::UNAUTHORIZED, challenge, "invalid credentials").into_response()
}

/// Read at each request: the file is the gateway's password and the functions', which must stay the same.
fn is_operator(shared: &Shared, request: &Request<Body>) -> bool {
    let user = shared.secrets.read(USER).unwrap_or_else(|_| DEFAULT_USER.to_owned());
    let Ok(password) = shared.secrets.read(PASSWORD) else { return false };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, credentials) = value.split_once(' ')?;
        let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(credentials.trim()).ok())??;
        String::from_utf8(decoded).ok()
    });
    // Digests, so that the time of the comparison reveals nothing; an empty password never matches.
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    !password.is_empty() && given.is_some_and(|given| digest(&given) == digest(&format!("{user}:{password}")))
}
