//! A port that is listened on.

use std::{
    fmt,
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};

use crate::log::Log;

/// A port that could not be listened on, or a log that could not be started.
#[derive(Debug)]
pub struct BindError {
    what: String,
    source: io::Error,
}

impl BindError {
    pub(crate) fn new(what: impl Into<String>, source: io::Error) -> Self {
        Self { what: what.into(), source }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Binds the port that is called `name` in the configuration.
pub(crate) async fn listen(name: &str, address: SocketAddr) -> Result<(Listener, SocketAddr), BindError> {
    let error = |source| BindError::new(format!("cannot listen on {address} ({name})"), source);
    let listener = match TcpListener::bind(address).await {
        // A machine without IPv6 has no dual-stack wildcard.
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], address.port()))).await
        }
        bound => bound,
    }
    .map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    Ok((Listener(listener), address))
}

/// A listener whose hitches are told and waited out.
pub(crate) struct Listener(TcpListener);

impl Listener {
    /// Waits for the next connection.
    pub(crate) async fn next(&self, log: &Log) -> TcpStream {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => {
                    // Answers are written whole; waiting to fill a packet would only delay them.
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                // The one connection that was about to come is gone.
                Err(error) if [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset].contains(&error.kind()) => {}
                Err(error) => {
                    // Out of file descriptors, most likely: connections have to end before another try makes sense.
                    log.say(format_args!("cannot accept a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
