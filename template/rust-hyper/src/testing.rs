//! Functions under test: called in process, or started on a port of their own.

use std::{future::Future, net::SocketAddr};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{Body, BoxError, Config, Function, IntoFunction, Watchdog};

/// A function without a watchdog around it, see [`test()`].
#[derive(Debug, Clone)]
pub struct Tested<F>(F);

/// Calls a constructor, for tests of its function in process: no socket, no limits, no log.
///
/// ```
/// # async fn handler() -> Result<axum::Router, watchdog::BoxError> {
/// #     Ok(axum::Router::new().route("/", axum::routing::get(async || "hello\n")))
/// # }
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let function = watchdog::test(handler).await?;
/// let answer = function.call(http::Request::get("/").body("")?).await?;
/// assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"hello\n"[..]));
/// # Ok::<(), watchdog::BoxError>(())
/// # })?;
/// # Ok::<(), watchdog::BoxError>(())
/// ```
///
/// # Errors
/// That of the constructor.
pub async fn test<H, R, F, M>(handler: H) -> Result<Tested<F::Function>, BoxError>
where
    H: FnOnce() -> R,
    R: Future<Output = Result<F, BoxError>>,
    F: IntoFunction<M>,
{
    Ok(Tested(handler().await?.into_function().0))
}

impl<F: Function> Tested<F> {
    /// Calls the function with one request and reads all of its answer.
    ///
    /// # Errors
    /// That of the service, or of the answer's body.
    pub async fn call(&self, request: Request<impl Into<Body>>) -> Result<Response<Bytes>, BoxError> {
        let mut function = self.0.clone();
        std::future::poll_fn(|cx| function.poll_ready(cx)).await.map_err(Into::into)?;
        let (head, body) = function.call(request.map(Into::into)).await.map_err(Into::into)?.into_parts();
        let (mut body, mut bytes) = (std::pin::pin!(body), BytesMut::new());
        while let Some(frame) = std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx)).await {
            if let Ok(mut data) = frame.map_err(Into::into)?.into_data() {
                bytes::BufMut::put(&mut bytes, &mut data);
            }
        }
        Ok(Response::from_parts(head, bytes.freeze()))
    }
}

/// A function behind its watchdog, see [`start`]. Dropping it stops it at once.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

/// Calls a constructor and serves its function on a free port of 127.0.0.1, by the watchdog's defaults and without
/// metrics, lock file or access log.
///
/// # Errors
/// That of the constructor, or of the port.
pub async fn start<H, R, F, M>(handler: H) -> Result<Running, BoxError>
where
    H: FnOnce() -> R,
    R: Future<Output = Result<F, BoxError>>,
    F: IntoFunction<M>,
    F::Function: Send,
{
    let variables = |name: &str| match name {
        "suppress_lock" => Some("true".to_owned()),
        "healthcheck_interval" => Some("0s".to_owned()),
        "RUST_LOG" => Some("off".to_owned()),
        _ => None,
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config::from_strings(variables)?.with_address(any).with_metrics_address(None);
    let function = handler().await?.into_function();
    let watchdog = Watchdog::bind(config).await?;
    let address = watchdog.address();
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(watchdog.run(function, async {
        let _ = stopped.await;
    }));
    Ok(Running { address, stop: Some(stop), serving })
}

impl Running {
    /// `http://` and the address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops as SIGTERM does: when all calls are answered and the shutdown hook has run.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // An error is a panic of the shutdown hook, which was logged.
        let _ = (&mut self.serving).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
