//! A function that shows what another one wrote into its ledger: no token, no provider, no secret but the store's. For a
//! static web site, so any page may read it and caches may keep it.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{
    config::{Mistakes, Retriever},
    job::{Ledger, open_ledgers, strava},
    store::DEFAULT_ACCOUNT,
};

const ANY: HeaderValue = HeaderValue::from_static("*");

#[derive(Debug)]
struct Shown {
    ledger: Ledger,
    cache: HeaderValue,
}

/// The routes of a function with the variable `record_of`.
///
/// # Errors
/// When the store can't be used as configured.
pub async fn retriever(config: &Retriever) -> Result<Router, Box<dyn std::error::Error + Send + Sync>> {
    let store = open_ledgers(&config.store, &config.store_options, &config.record_of)
        .await
        .map_err(|err| std::io::Error::new(std::io::ErrorKind::InvalidInput, Mistakes::one(err.to_string())))?;
    let seconds = config.max_age.as_secs();
    let cache = HeaderValue::try_from(format!("public, max-age={seconds}, stale-while-revalidate={seconds}"))?;
    let shown = Shown { ledger: Ledger::new(Arc::new(store), DEFAULT_ACCOUNT), cache };
    Ok(Router::new().route("/", get(show).options(preflight)).with_state(Arc::new(shown)))
}

async fn show(State(shown): State<Arc<Shown>>, asked: HeaderMap) -> Response {
    let (status, body, cache) = match shown.ledger.read::<strava::Summary>(strava::NOTES).await {
        Ok(entry) if entry.notes.updated_at.is_some() => {
            (StatusCode::OK, serde_json::to_string(&entry.notes).unwrap_or_default(), shown.cache.clone())
        }
        result => {
            if let Err(err) = result {
                tracing::warn!(error = %err, "the record can't be read");
            }
            // Neither what is missing nor what failed is for a cache.
            let body = r#"{"error":"not_yet","message":"nothing was written yet","next":"Ask again later."}"#;
            (StatusCode::SERVICE_UNAVAILABLE, body.to_owned(), HeaderValue::from_static("no-store"))
        }
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    let short: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{short}\"");
    let same = asked.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged = status == StatusCode::OK
        && same.is_some_and(|tags| tags.split(',').any(|other| other.trim().trim_start_matches("W/") == tag));
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(header::CACHE_CONTROL, cache);
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// What a browser asks before a page may send headers of its own.
async fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY),
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("if-none-match")),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}
