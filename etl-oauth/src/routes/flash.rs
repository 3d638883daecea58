//! What one answer has to tell the page that it leads to, through the browser that was there: a sealed cookie.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use serde::{Serialize, de::DeserializeOwned};

use super::App;

/// The cookie of that name, which carries `value` for a while.
pub(super) fn leave(app: &App, name: &str, value: &impl Serialize, lifetime: Duration) -> Option<HeaderValue> {
    let value = serde_json::to_vec(value).ok()?;
    app.jar.set(name, &app.key.seal(name, &value).ok()?, lifetime)
}

/// What the cookie of that name carries; nothing where it was not made here.
pub(super) fn find<T: DeserializeOwned>(app: &App, headers: &HeaderMap, name: &str) -> Option<T> {
    serde_json::from_slice(&app.key.open(name, &app.jar.get(headers, name)?)?).ok()
}

/// Takes the cookie away, where the browser has it.
pub(super) fn forget(app: &App, headers: &HeaderMap, name: &str) -> Option<HeaderValue> {
    app.jar.get(headers, name)?;
    app.jar.set(name, "", Duration::ZERO)
}
