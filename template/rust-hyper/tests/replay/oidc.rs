//! The issuer of tokens that the cases of `jwt_auth` talk to.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    thread,
};

use serde_json::{Value, json};

/// Serves discovery and keys on the port that it returns, in the broken way that `kind` names.
pub(crate) fn serve(jwt: &Value, kind: &str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let mut discovery = jwt["discovery"].clone();
    discovery["jwks_uri"] = json!(format!("http://127.0.0.1:{port}/.well-known/keys"));
    let (discovery, jwks, kind) = (discovery.to_string(), jwt["jwks"].to_string(), kind.to_owned());
    // Ends with the test process: a case is over when its subject is, and nobody else knows the port.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            let is_keys = first.contains("/.well-known/keys");
            let (status, body) = match (is_keys, kind.as_str()) {
                (false, "discovery-500") | (true, "jwks-500") => (500, "no"),
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
    port
}
