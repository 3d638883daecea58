//! The queue of asynchronous calls: accepted at once, run one after the other, never retried, as by the community
//! edition's queue worker.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::invoke::{read_body, text};
use crate::console::Console;
use crate::http::send;

/// NATS' limit as the gateway checks it.
const LARGEST: usize = 256_000;

/// The number of calls that may wait; the next caller waits for a place.
const WAITING: usize = 1000;

#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Job>,
    worker: TaskTracker,
    kill: CancellationToken,
}

#[derive(Debug)]
struct Job {
    request: Request<Bytes>,
    name: String,
    callback: Option<Uri>,
}

impl Queue {
    /// Starts the worker, which calls the functions through the gateway.
    pub(super) fn start(gateway: SocketAddr, console: Console, stop: CancellationToken) -> Self {
        let (sender, mut jobs) = mpsc::channel::<Job>(WAITING);
        let (worker, kill) = (TaskTracker::new(), CancellationToken::new());
        let work = async move {
            while let Some(Some(job)) = stop.run_until_cancelled(jobs.recv()).await {
                let name = job.name.clone();
                if let Err(error) = job.run(gateway).await {
                    console.say("queue-worker", &format!("{name}: {error:#}"));
                }
            }
        };
        worker.spawn({
            let kill = kill.clone();
            async move { kill.run_until_cancelled(work).await }
        });
        Self { sender, worker, kill }
    }

    /// Lets the call under way finish for as long as `grace`; the others are lost.
    pub(super) async fn stop(self, grace: Duration) {
        self.worker.close();
        if tokio::time::timeout(grace, self.worker.wait()).await.is_err() {
            self.kill.cancel();
            self.worker.wait().await;
        }
    }

    /// Queues `request`, whose URI is still that of the caller.
    pub(super) async fn accept(&self, request: Request<Body>, peer: SocketAddr) -> Response<Body> {
        if request.method() != Method::POST {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let (mut parts, body) = request.into_parts();
        let callback = match parts.headers.get("x-callback-url").map(|url| Uri::try_from(url.as_bytes())) {
            Some(Err(_)) => return text(StatusCode::BAD_REQUEST, "the header X-Callback-Url is no URL"),
            Some(Ok(url)) => Some(url),
            None => None,
        };
        let Ok(body) = read_body(body, LARGEST).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the body is larger than a message may be");
        };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let path = path.replacen("/async-function/", "/function/", 1);
        let name = path.split(['/', '?']).nth(2).unwrap_or_default().to_owned();
        let Ok(uri) = Uri::try_from(path) else { return StatusCode::BAD_REQUEST.into_response() };
        parts.uri = uri;
        // Otherwise the gateway would put the worker's address here.
        if let Ok(from) = HeaderValue::try_from(peer.to_string()) {
            parts.headers.entry("x-forwarded-for").or_insert(from);
        }
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
            parts.headers.remove(name);
        }
        let job = Job { request: Request::from_parts(parts, body), name, callback };
        match self.sender.send(job).await {
            Ok(()) => StatusCode::ACCEPTED.into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

impl Job {
    async fn run(self, gateway: SocketAddr) -> anyhow::Result<()> {
        let started = Instant::now();
        let (mut parts, body) = self.request.into_parts();
        parts.headers.insert(header::USER_AGENT, HeaderValue::from_static("openfaas-ce/nats-queue-worker"));
        let call_id = parts.headers.get(super::invoke::CALL_ID).cloned();
        let response = send(gateway, Request::from_parts(parts, Body::from(body))).await?;
        let (answer, body) = response.into_parts();
        let body = read_body(body, usize::MAX).await?;
        let Some(callback) = self.callback else { return Ok(()) };
        // The callback's address is not checked, as in the community edition: any caller can send results anywhere.
        let address = callback.authority().and_then(|authority| {
            let port = authority.port_u16().unwrap_or(80);
            Some(format!("{}:{port}", authority.host())).filter(|_| callback.scheme_str() == Some("http"))
        });
        let address = address.ok_or_else(|| anyhow::anyhow!("only http callbacks are sent from here"))?;
        let address = tokio::net::lookup_host(address).await?.next();
        let address = address.ok_or_else(|| anyhow::anyhow!("the callback's host has no address"))?;
        let mut request = Request::post(callback.path_and_query().map_or("/", |path| path.as_str()));
        if let Some(headers) = request.headers_mut() {
            *headers = result_headers(answer.headers, &self.name, started, answer.status, call_id)?;
            headers.insert(header::HOST, HeaderValue::try_from(callback.authority().map_or("", |it| it.as_str()))?);
        }
        let answered = send(address, request.body(Body::from(body))?).await?;
        // Reads to the end, so that the other side's response is complete.
        read_body(answered.into_body(), LARGEST).await?;
        Ok(())
    }
}

fn result_headers(
    mut headers: HeaderMap,
    name: &str,
    started: Instant,
    status: StatusCode,
    call_id: Option<HeaderValue>,
) -> anyhow::Result<HeaderMap> {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONNECTION);
    let seconds = format!("{:.6}", started.elapsed().as_secs_f64());
    headers.insert("x-duration-seconds", HeaderValue::try_from(seconds)?);
    headers.insert("x-function-status", HeaderValue::from(status.as_u16()));
    headers.insert("x-function-name", HeaderValue::try_from(name)?);
    if let Some(id) = call_id {
        headers.insert(super::invoke::CALL_ID, id);
    }
    Ok(headers)
}
