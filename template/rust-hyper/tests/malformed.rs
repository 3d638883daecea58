//! Requests that are malformed or could be read in two ways (RFC 9112), each sent on a connection of its own with a second
//! request behind it: none is answered with success, the connection ends, and the second request is never answered.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test, which is to fail of a surprise")]

use std::time::Duration;

use axum::{Router, body::Bytes, routing::any};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use watchdog::BoxError;

/// Reads all of the body, and says how much it was.
async fn handler() -> Result<Router, BoxError> {
    Ok(Router::new().fallback(any(async |body: Bytes| format!("read {}\n", body.len()))))
}

/// All that is answered to `request` until the server closes.
async fn answers(url: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    // A server that has refused may close before all is sent.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut answers = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answers)).await;
    // A reset is an end, too.
    let _ = read.expect("the connection does not end");
    String::from_utf8_lossy(&answers).into_owned()
}

const SECOND: &str = "GET /second HTTP/1.1\r\nHost: fn\r\n\r\n";

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn get(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: fn\r\n\r\n{SECOND}").into_bytes()
}

fn with_field(field: &[u8]) -> Vec<u8> {
    bytes(&[b"GET / HTTP/1.1\r\nHost: fn\r\n", field, b"\r\n\r\n", SECOND.as_bytes()])
}

fn post(fields: &str, body: &[u8]) -> Vec<u8> {
    bytes(&[b"POST / HTTP/1.1\r\nHost: fn\r\n", fields.as_bytes(), b"\r\n\r\n", body, SECOND.as_bytes()])
}

fn chunked(body: &[u8]) -> Vec<u8> {
    post("Transfer-Encoding: chunked", body)
}

fn request_lines() -> Vec<Vec<u8>> {
    let lines = [
        "GET /",
        "GET",
        "",
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/.1",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / HTTP/3.0",
        "GET / http/1.1",
        "GET / HTTPS/1.1",
        "GET / HTTP 1.1",
        "GET / HTP/1.1",
        "GET / /1.1",
        "GET HTTP/1.1",
        "GET / / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET word HTTP/1.1",
        "GET fn:80 HTTP/1.1",
        "GET ftp://fn/ HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET /% HTTP/1.1",
        "GET /%2 HTTP/1.1",
        "GET /%zz HTTP/1.1",
        "GET * HTTP/1.1",
        "CONNECT fn:80 HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\0 HTTP/1.1",
    ];
    let methods = "\"(),/:;<=>?@[\\]{}\0\u{1}\u{7f}".chars();
    lines
        .iter()
        .filter(|line| !line.is_empty())
        .map(|line| get(line))
        .chain(methods.map(|c| get(&format!("G{c}T / HTTP/1.1"))))
        .collect()
}

fn fields() -> Vec<Vec<u8>> {
    let names = "\"(),/;<=>?@[\\]{} \t\0\u{1}\u{7f}".bytes().map(|c| with_field(&[b'X', c, b'Y', b':', b' ', b'1']));
    // Obsolete text (0x80 to 0xff) and tabs are values.
    let values =
        (0..0x20).chain([0x7f]).filter(|c| !b"\t\n\r".contains(c)).map(|c| with_field(&[b'X', b':', b' ', c, b'1']));
    let others = [
        "X",
        ": 1",
        "X : 1",
        " X: 1",
        "\tX: 1",
        "X: 1\r\n folded",
        "X: 1\r\n\tfolded",
        "X: 1\rY: 2",
        "X\r: 1",
        "X\n: 1",
        "é: 1",
        "Expect: 200-maybe",
        "Expect: 100-continue, more",
    ];
    let hosts = ["", " ", "a b", "a@b", "a/b", "a:b", "[::1", ":80", "a, b", "a?b", "a#b", "a\\b", "a:80:80"]
        .map(|host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n{SECOND}").into_bytes());
    let without = [
        format!("GET / HTTP/1.1\r\n\r\n{SECOND}"),
        format!("GET / HTTP/1.1\r\nHost: fn\r\nHost: fn\r\n\r\n{SECOND}"),
        format!("GET / HTTP/1.1\r\nHost: fn\r\nhost: other\r\n\r\n{SECOND}"),
        format!("GET / HTTP/1.1\r\n Host: fn\r\n\r\n{SECOND}"),
        format!("GET / HTTP/1.1\r\nX: 1\r\n\r\nHost: fn\r\n\r\n{SECOND}"),
    ];
    names
        .chain(values)
        .chain(others.map(|field| with_field(field.as_bytes())))
        .chain(hosts)
        .chain(without.map(String::into_bytes))
        .collect()
}

fn lengths() -> Vec<Vec<u8>> {
    let lengths = [
        "+4",
        "-4",
        "0x4",
        "4x",
        "x4",
        "4 4",
        "4;",
        "4.0",
        "4e0",
        "\"4\"",
        "",
        " ",
        ",",
        "4,",
        ",4",
        "4, 5",
        "4,5",
        "٤",
        "18446744073709551616",
        "99999999999999999999",
        "-0",
        "+0",
        "0 4",
        "4\0",
    ];
    let lengths = lengths.map(|length| post(&format!("Content-Length: {length}"), b"body"));
    let pairs = [("4", "5"), ("5", "4"), ("4", "x"), ("4", "+4"), ("0", "4"), ("4", "")];
    let pairs =
        pairs.map(|(first, second)| post(&format!("Content-Length: {first}\r\nContent-Length: {second}"), b"body"));
    lengths.into_iter().chain(pairs).collect()
}

fn encodings() -> Vec<Vec<u8>> {
    let chunks = b"4\r\nbody\r\n0\r\n\r\n";
    let encodings = [
        "xchunked",
        "chunkedx",
        "chunke",
        "chunked\0",
        "\"chunked\"",
        "'chunked'",
        "chunked;",
        "chunked; q=1",
        "gzip",
        "identity",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "",
        " ",
        "chunked chunked",
        "\u{b}chunked",
        "\u{c}chunked",
        "chun\tked",
        "chünked",
        "compress",
        "deflate, chunked",
        "x",
        "cow",
    ];
    let doubled = [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding\0: chunked",
        "X: 1\rTransfer-Encoding: chunked",
        "Transfer-Encoding",
    ];
    let both = ["chunked", "Chunked", "CHUNKED", "\tchunked", "chunked\t", "identity", "gzip, chunked", "xchunked"]
        .into_iter()
        .flat_map(|encoding| {
            let (length, encoding) = ("Content-Length: 4", format!("tRANSFER-eNCODING: {encoding}"));
            [
                format!("{length}\r\n{encoding}"),
                format!("{encoding}\r\n{length}"),
                format!("{length}\r\nX: 1\r\n{encoding}"),
            ]
        });
    let old = [
        "Transfer-Encoding: chunked",
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
    ]
    .map(|fields| {
        bytes(&[
            b"POST / HTTP/1.0\r\nHost: fn\r\nConnection: keep-alive\r\n",
            fields.as_bytes(),
            b"\r\n\r\n",
            chunks,
            SECOND.as_bytes(),
        ])
    });
    let alone = encodings.map(|encoding| post(&format!("Transfer-Encoding: {encoding}"), chunks));
    let alone = alone.into_iter().chain(doubled.map(|fields| post(fields, chunks)));
    alone.chain(both.map(|fields| post(&fields, chunks))).chain(old).collect()
}

fn chunks() -> Vec<Vec<u8>> {
    let sizes = [
        "",
        " ",
        "x",
        "g",
        "0x4",
        "+4",
        "-4",
        "4x",
        " 4",
        "4 4",
        "4,",
        "\t4",
        "10000000000000000",
        "fffffffffffffffff",
        "٤",
        "4\0",
        "4\r",
        "4;a\nb",
        "-0",
    ];
    let sizes = sizes.map(|size| chunked(format!("{size}\r\nbody\r\n0\r\n\r\n").as_bytes()));
    let data: [&[u8]; 9] = [
        b"4\r\nbodyX\r\n0\r\n\r\n",
        b"4\r\nbody0\r\n\r\n",
        b"3\r\nbody\r\n0\r\n\r\n",
        b"5\r\nbody\r\n0\r\n\r\n",
        b"4\r\nbody\n\r0\r\n\r\n",
        b"4\rbody\r\n0\r\n\r\n",
        b"4\r\nbody\r\n0\r\nX\r\n\r\n",
        b"4\r\nbody\r\n0\r\nX : 1\r\n\r\n",
        b"4\r\nbody\r\n0\r\n: 1\r\n\r\n",
    ];
    sizes.into_iter().chain(data.map(chunked)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_is_never_answered_with_success() {
    let function = watchdog::start(handler).await.unwrap();
    let all: Vec<_> = [request_lines(), fields(), lengths(), encodings(), chunks()].concat();
    assert!(all.len() > 206, "{}", all.len());
    let mut taken = Vec::new();
    for request in &all {
        let answers = answers(&function.url(), request).await;
        let is_refused = answers.is_empty() || answers.starts_with("HTTP/1.1 4") || answers.starts_with("HTTP/1.1 5");
        if !is_refused || answers.matches("HTTP/1.1 ").count() > 1 {
            taken.push(format!("{:?}\n  {answers:?}", String::from_utf8_lossy(request)));
        }
    }
    assert!(taken.is_empty(), "{} of {} are taken:\n{}", taken.len(), all.len(), taken.join("\n"));
    function.stop().await;
}

#[tokio::test]
async fn a_well_formed_request_and_the_next_one_are_answered() {
    let function = watchdog::start(handler).await.unwrap();
    for (request, first) in [
        (get("GET / HTTP/1.1"), "read 0"),
        (get("GET /a%20b?c=%zz HTTP/1.1"), "read 0"),
        (get("GET http://fn/ HTTP/1.1"), "read 0"),
        (get("M-SEARCH / HTTP/1.1"), "read 0"),
        (bytes(&[b"\r\n", &get("GET / HTTP/1.1")]), "read 0"),
        (with_field(b"X:"), "read 0"),
        (with_field(b"X: \t1\t "), "read 0"),
        (with_field(b"!#$%&'*+-.^_`|~9: 1"), "read 0"),
        (with_field(b"X: \xe9"), "read 0"),
        (post("Content-Length: 4", b"body"), "read 4"),
        (post("content-LENGTH:4", b"body"), "read 4"),
        (post("Content-Length: 04", b"body"), "read 4"),
        (chunked(b"4\r\nbody\r\n0\r\n\r\n"), "read 4"),
        (chunked(b"04;a=b\r\nbody\r\n1\r\n!\r\n0\r\nX: 1\r\n\r\n"), "read 5"),
        (chunked(b"A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n"), "read 20"),
    ] {
        let answers = answers(&function.url(), &request).await;
        let text = String::from_utf8_lossy(&request);
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{text:?}: {answers:?}");
        assert!(answers.contains(first), "{text:?}: {answers:?}");
    }
    function.stop().await;
}
