//! A function that shows what another one wrote into its ledger: no token, no provider, no secret but the store's. For a
//! static web site, so any page may read it and caches may keep it.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    config::{Mistakes, Retriever},
    job::{JobError, JobState, open_ledgers, strava},
};
use token_keeper::store::Key;

const ANY: HeaderValue = HeaderValue::from_static("*");

/// So often the store is asked, however many people look.
const FRESH: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Shown {
    ledger: JobState,
    cache: HeaderValue,
    /// Locked while the store is asked, so that all who wait have its one answer. When it came, and what it was.
    last: Mutex<Option<(Instant, Known)>>,
}

/// What is known of the record.
#[derive(Clone, Debug)]
enum Known {
    CachedRecord(CachedRecord),
    /// Nothing was written yet.
    Nothing,
    /// The store gave no answer, and none before.
    Unread,
}

/// The record as it is sent.
#[derive(Clone, Debug)]
struct CachedRecord {
    body: Bytes,
    tag: HeaderValue,
}

/// The routes of a function with the variable `record_of`.
///
/// # Errors
/// When the store can't be used as configured.
pub async fn retriever(config: &Retriever) -> Result<Router, Box<dyn std::error::Error + Send + Sync>> {
    let store = open_ledgers(&config.store, &config.store_options, &config.record_of)
        .await
        .map_err(|err| std::io::Error::new(std::io::ErrorKind::InvalidInput, Mistakes::one(err.to_string())))?;
    Ok(router(JobState::new(Arc::new(store), &Key::default()), config.max_age)?)
}

fn router(ledger: JobState, max_age: Duration) -> Result<Router, header::InvalidHeaderValue> {
    let seconds = max_age.as_secs();
    let cache = HeaderValue::try_from(format!("public, max-age={seconds}, stale-while-revalidate={seconds}"))?;
    let shown = Shown { ledger, cache, last: Mutex::default() };
    let nothing = async || refused(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path", "Look at `/`.");
    let not_so = async || {
        let (message, next) = ("this can only be read", "Send a GET.");
        refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message, next)
    };
    Ok(Router::new()
        .route("/", get(show).options(preflight))
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        .with_state(Arc::new(shown)))
}

async fn show(State(shown): State<Arc<Shown>>, asked: HeaderMap) -> Response {
    let copy = match shown.known().await {
        Known::CachedRecord(copy) => copy,
        Known::Nothing => {
            let next = "Authorise the function that writes it, run it once, and ask again.";
            return refused(StatusCode::SERVICE_UNAVAILABLE, "not_yet", "nothing was written yet", next);
        }
        Known::Unread => {
            let (message, next) = ("the record can't be read now", "Ask again later; the function's log says why.");
            return refused(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", message, next);
        }
    };
    let tags = asked.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let known = |tag: &str| tag == "*" || tag.trim_start_matches("W/").as_bytes() == copy.tag.as_bytes();
    let mut response = if tags.split(',').any(|tag| known(tag.trim())) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], copy.body).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(header::CACHE_CONTROL, shown.cache.clone());
    headers.insert(header::ETAG, copy.tag);
    response
}

impl Shown {
    /// The record; the last one that was read while the store is away.
    async fn known(&self) -> Known {
        let asked_at = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((at, known)) = &*last {
            // A store that is away is slow to say so: who waited for that does not ask it again, one after the other.
            let waited = *at > asked_at;
            if waited || (matches!(known, Known::CachedRecord(_)) && at.elapsed() < FRESH) {
                return known.clone();
            }
        }
        let known = match (self.read().await, &*last) {
            (Ok(known), _) => known,
            (Err(err), Some((_, Known::CachedRecord(copy)))) => {
                tracing::warn!(error = %err, "the record can't be read; the last one is shown on");
                Known::CachedRecord(copy.clone())
            }
            (Err(err), _) => {
                tracing::warn!(error = %err, "the record can't be read");
                Known::Unread
            }
        };
        *last = Some((Instant::now(), known.clone()));
        known
    }

    async fn read(&self) -> Result<Known, JobError> {
        let entry = self.ledger.read::<strava::Summary>(strava::NOTES).await?;
        if entry.notes.updated_at.is_none() {
            return Ok(Known::Nothing);
        }
        let body = serde_json::to_vec(&entry.notes).map_err(|err| JobError::Failed(err.to_string()))?;
        Ok(Known::CachedRecord(CachedRecord { tag: tag(&body), body: body.into() }))
    }
}

/// A strong tag: the same bytes have the same one in every replica.
fn tag(body: &[u8]) -> HeaderValue {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    let short: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    // Digits and quotes are a header's value.
    HeaderValue::try_from(format!("\"{short}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Neither what is missing nor what failed is for a cache; a page may read why.
fn refused(status: StatusCode, error: &str, message: &str, next: &str) -> Response {
    let body = json!({ "error": error, "message": message, "next": next }).to_string();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body).into_response()
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

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt as _;

    use super::*;
    use token_keeper::store::{Memory, Store};

    async fn ask(router: &Router, method: &str, path: &str) -> (u16, String, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let cache = answer.headers()[header::CACHE_CONTROL].to_str().unwrap().to_owned();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, cache, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn write(ledger: &JobState, at: i64) {
        let mut entry = ledger.read::<strava::Summary>(strava::NOTES).await.unwrap();
        entry.notes.updated_at = jiff::Timestamp::from_second(at).ok();
        ledger.write(strava::NOTES, entry).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_asked_once_in_a_while_and_what_it_gave_is_shown_on_while_it_is_away() {
        let memory = Memory::default();
        let ledger = JobState::new(Arc::new(Store::Memory(memory.clone())), &Key::default());
        let router = router(ledger.clone(), Duration::from_secs(60)).unwrap();
        let (status, cache, body) = ask(&router, "GET", "/").await;
        assert_eq!((status, cache.as_str()), (503, "no-store"));
        assert!(body.contains("not_yet"), "{body}");
        write(&ledger, 1).await;
        let (status, cache, first) = ask(&router, "GET", "/").await;
        assert_eq!((status, cache.as_str()), (200, "public, max-age=60, stale-while-revalidate=60"));
        write(&ledger, 2).await;
        assert_eq!(ask(&router, "GET", "/").await.2, first);
        tokio::time::advance(FRESH).await;
        let (.., second) = ask(&router, "GET", "/").await;
        assert!(first.contains("1970-01-01T00:00:01Z") && second.contains("1970-01-01T00:00:02Z"), "{second}");
        tokio::time::advance(FRESH).await;
        memory.fail(true);
        assert_eq!(ask(&router, "GET", "/").await, (200, cache, second));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_while_the_store_was_asked_has_its_answer_whatever_that_is() {
        let ledger = JobState::new(Arc::new(Store::Memory(Memory::default())), &Key::default());
        let shown = Shown { ledger, cache: ANY, last: Mutex::default() };
        let mut asking = shown.last.lock().await;
        let mut waiting = std::pin::pin!(shown.known());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        tokio::time::advance(Duration::from_secs(10)).await;
        *asking = Some((Instant::now(), Known::Unread));
        drop(asking);
        assert!(matches!(waiting.await, Known::Unread), "the store was asked once more");
        assert!(matches!(shown.known().await, Known::Nothing), "who comes later asks anew");
    }

    #[tokio::test]
    async fn errors_are_json_that_any_page_may_read_and_no_cache_keeps() {
        let memory = Memory::default();
        memory.fail(true);
        let ledger = JobState::new(Arc::new(Store::Memory(memory)), &Key::default());
        let router = router(ledger, Duration::ZERO).unwrap();
        for (method, path, status, error) in [
            ("GET", "/", 503, "store_unavailable"),
            ("GET", "/enable", 404, "not_found"),
            ("POST", "/", 405, "method_not_allowed"),
        ] {
            let (code, cache, body) = ask(&router, method, path).await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((code, cache.as_str(), body["error"].as_str()), (status, "no-store", Some(error)));
        }
    }
}
