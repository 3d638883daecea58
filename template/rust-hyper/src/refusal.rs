//! What the server answers a request that no function is to see.

/// A refusal by the server itself: `status` is code and reason, `body` what is said below the header.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) status: &'static str,
    pub(crate) body: &'static str,
}

impl Refusal {
    const fn plain(status: &'static str) -> Self {
        Self { status, body: status }
    }

    /// The whole answer. Its end is the end of the connection.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let Self { status, body } = self;
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{body}")
            .into()
    }
}

pub(crate) const BAD: Refusal = Refusal::plain("400 Bad Request");
pub(crate) const NO_HOST: Refusal = Refusal::plain("400 Bad Request: missing required Host header");
pub(crate) const BAD_HOST: Refusal = Refusal::plain("400 Bad Request: malformed Host header");
pub(crate) const BAD_NAME: Refusal = Refusal::plain("400 Bad Request: invalid header name");
pub(crate) const LONG_TARGET: Refusal = Refusal::plain("414 URI Too Long");
pub(crate) const LARGE: Refusal = Refusal::plain("431 Request Header Fields Too Large");
pub(crate) const ENCODING: Refusal = Refusal { status: "501 Not Implemented", body: "Unsupported transfer encoding" };
pub(crate) const VERSION: Refusal = Refusal::plain("505 HTTP Version Not Supported: unsupported protocol version");
