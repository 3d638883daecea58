//! The metrics port.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    listener::Listener,
    reply::{Reply, Silent, own, redirect},
    shared::Shared,
    target,
    traffic::{Traffic, Turn},
    wire::{Protocol, Wire},
};

/// How long a scraper may take to ask, and how long its connection is kept.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves `/metrics` until it is dropped.
pub(crate) async fn serve(listener: Listener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = listener.next(&shared.log).await;
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(stream, Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let traffic = Arc::new(Traffic::new());
    let mut wire = Wire::new(stream, Arc::clone(&traffic), READ_TIMEOUT);
    let Some(Protocol::Http1 { lines }) = wire.protocol().await else { return };
    let service = service_fn(move |request: Request<Incoming>| {
        let turn = Turn::new(&traffic);
        let mut response = answer(&shared, &request);
        if traffic.is_unread() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.body_mut().set_turn(turn);
        async move { Ok::<_, Infallible>(response) }
    });
    // A scraper that hangs up or sends nonsense is its own affair.
    let mut http1 = http1::Builder::new();
    http1.header_read_timeout(None).max_headers(lines.unwrap_or(100));
    drop(http1.serve_connection(wire, service).await);
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Reply<Silent>> {
    if let Some(location) = target::redirect(request.uri()) {
        return redirect(request.method(), &location);
    }
    match request.uri().path() {
        "/metrics" => {
            let text = shared.metrics.render(shared.gate.inside());
            own(StatusCode::OK, Some("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"), text)
        }
        "*" if request.method() == Method::OPTIONS => own(StatusCode::OK, None, ""),
        _ => {
            let mut response = own(StatusCode::NOT_FOUND, Some("text/plain; charset=utf-8"), "404 page not found\n");
            response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
    }
}
