//! A function on plain hyper.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tower::{Service, service_fn};

/// A `hello` for every request, as `bare` says it.
pub async fn handler() -> Result<
    impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static,
    Box<dyn std::error::Error + Send + Sync>,
> {
    Ok(service_fn(async |_| {
        let mut response = Response::new(Full::new(Bytes::from_static(b"hello\n")));
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(response)
    }))
}
