//! An HTTP/1.1 server for a router, which can break a connection in place of a response.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

/// The client's address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// A response that is never sent: the connection closes in its place, as when a network loses an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost;

impl IntoResponse for Lost {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

/// Binds a listener; the error names the option to change if the address is in use.
pub(crate) async fn bind(what: &str, option: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "the {what} cannot listen on {address}; stop the program that does, or set another address with {option}"
        )
    })
}

/// The URL of a listener, without a slash at the end; with the loopback address for one that listens everywhere.
pub(crate) fn url(listener: &TcpListener) -> anyhow::Result<String> {
    let mut address = listener.local_addr()?;
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(format!("http://{address}"))
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    stop: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Serves `router` on `listener` until `stop`, which long responses observe, too.
    pub(crate) fn start(listener: TcpListener, router: axum::Router, stop: CancellationToken) -> Self {
        let (kill, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn({
            let (stop, kill, tasks) = (stop.clone(), kill.clone(), tasks.clone());
            async move {
                loop {
                    let accepted = tokio::select! {
                        accepted = listener.accept() => accepted,
                        () = stop.cancelled() => break,
                    };
                    match accepted {
                        Ok((stream, peer)) => {
                            let connection = serve(stream, peer, router.clone(), stop.clone());
                            let kill = kill.clone();
                            tasks.spawn(async move { kill.run_until_cancelled(connection).await });
                        }
                        // Out of file descriptors: the listener stays readable, and the loop would spin.
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    }
                }
            }
        });
        Self { stop, kill, tasks }
    }

    /// Lets requests under way finish for as long as `grace`, then closes what is left.
    pub(crate) async fn stop(self, grace: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.kill.cancel();
            self.tasks.wait().await;
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, router: axum::Router, stop: CancellationToken) {
    // Small responses are sent at once; a failure only costs time.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let answer = router.clone().call(request.map(Body::new));
        async move {
            let response = answer.await.unwrap_or_else(|never: Infallible| match never {});
            if response.extensions().get::<Lost>().is_some() {
                return Err(io::Error::from(io::ErrorKind::ConnectionReset));
            }
            Ok(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // As Go writes header names.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // The client sees a broken connection by itself.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
