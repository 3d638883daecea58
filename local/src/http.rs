//! A client that opens a connection for each request: a request never goes to an instance that has ended.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Sends `request`, whose URI is a path, and returns the response; its body is a stream.
pub(crate) async fn send(to: SocketAddr, mut request: Request<Body>) -> anyhow::Result<Response<Body>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    // Ends with the response's body, or when its reader is dropped; the response carries the error.
    tokio::spawn(connection);
    if !request.headers().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, HeaderValue::try_from(to.to_string())?);
    }
    Ok(sender.send_request(request).await?.map(Body::new))
}
