//! One request to a function: a connection of its own, so that an instance that has just been started again never gets
//! a request on a connection to the one before it.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Sends `request`, whose URI is a path, and answers with its response; the body arrives as it is read.
pub(crate) async fn send(to: SocketAddr, mut request: Request<Body>) -> anyhow::Result<Response<Body>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    // Ends with the response's body, or when its reader goes away; what went wrong the response says.
    tokio::spawn(connection);
    if !request.headers().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, HeaderValue::try_from(to.to_string())?);
    }
    Ok(sender.send_request(request).await?.map(Body::new))
}
