//! The issuer of tokens that the cases of `jwt_auth` talk to.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};

/// An issuer that serves until it is dropped.
pub(crate) struct Issuer {
    pub(crate) port: u16,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // The thread waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        // The next case may want the same port.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves discovery and keys on `port`, 0 for any, in the broken way that `kind` names.
pub(crate) fn serve(jwt: &Value, kind: &str, port: u16) -> Issuer {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let stopped = Arc::new(AtomicBool::new(false));
    let issuer_stopped = Arc::clone(&stopped);
    let port = listener.local_addr().expect("bound").port();
    let mut discovery = jwt["discovery"].clone();
    discovery["jwks_uri"] = json!(format!("http://127.0.0.1:{port}/.well-known/keys"));
    let (discovery, jwks, kind) = (discovery.to_string(), jwt["jwks"].to_string(), kind.to_owned());
    let thread = thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if stopped.load(Ordering::SeqCst) {
                return;
            }
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            let is_keys = first.contains("/.well-known/keys");
            let (status, body) = match (is_keys, kind.as_str()) {
                (false, "discovery-500") | (true, "jwks-500") => (500, "boom"),
                (false, "discovery-not-json") => (200, "<html>"),
                (true, "jwks-empty") => (200, r#"{"keys":[]}"#),
                (false, _) => (200, discovery.as_str()),
                (true, _) => (200, jwks.as_str()),
            };
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body.as_bytes()));
        }
    });
    Issuer { port, stopped: issuer_stopped, thread: Some(thread) }
}
