//! The metrics port.

use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::task::JoinSet;

use crate::{
    access_log::AccessRecord,
    body::Body,
    connection::{self, Limits},
    framing,
    response::{ResponseBody, own},
    server::{Context, Listener},
    service::{finish, refuse},
};

/// How long a scraper's connection may be idle, as of-watchdog has it, and how long an answer may take.
const LIMITS: Limits = Limits { idle: Duration::from_millis(500), call: Duration::from_secs(10) };

/// Serves `/metrics` until it is dropped.
pub(crate) async fn serve(listener: Listener, context: Arc<Context>) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let stream = listener.accept().await;
        while connections.try_join_next().is_some() {}
        connections.spawn(connection::serve(stream, Arc::clone(&context), LIMITS, graceful.watcher(), |connection| {
            service_fn(move |request: Request<Incoming>| {
                let mut record = AccessRecord::new(&connection);
                let response = match framing::check(&request, connection.has_two_lengths()) {
                    Ok(_) => answer(&connection.context, &request),
                    Err(status) => refuse(status, &mut record),
                };
                ready(Ok::<_, Infallible>(finish(response, request.version(), record)))
            })
        }));
    }
}

fn answer(context: &Context, request: &Request<Incoming>) -> Response<ResponseBody<Body>> {
    match request.uri().path() {
        "/metrics" => {
            let text = context.metrics.render(context.limit.inside());
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
