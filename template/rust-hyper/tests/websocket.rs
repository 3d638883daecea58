//! What an upgraded connection carries, by the cases of RFC 6455 that Autobahn's suite has too: framing, fragments, pings,
//! reserved bits and codes, UTF-8 and closing. Frames are written byte for byte.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test, which is to fail of a surprise")]

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

#[path = "../examples/websocket.rs"]
#[allow(dead_code, reason = "its `main` is of the example")]
mod example;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;

/// A frame of a client, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..65_536 => {
            frame.push(0xfe);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0xff);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn whole(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(FIN | opcode, payload)
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    whole(CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// Opcodes and payloads of the frames that come before the connection ends. `step`: bytes that are sent at a time.
async fn sent_back(url: &str, bytes: &[u8], step: usize) -> Vec<(u8, Vec<u8>)> {
    let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let request = "GET / HTTP/1.1\r\nHost: fn\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    writing.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(reading.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(
        head.starts_with("http/1.1 101 ") && head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    let bytes = bytes.to_vec();
    let writer = tokio::spawn(async move {
        for piece in bytes.chunks(step) {
            // A server that refuses closes before all is sent.
            if writing.write_all(piece).await.is_err() {
                break;
            }
        }
        writing
    });
    let mut frames = Vec::new();
    let read = async {
        while let Ok(first) = reading.read_u8().await {
            let length = match reading.read_u8().await.unwrap() {
                126 => reading.read_u16().await.unwrap().into(),
                127 => reading.read_u64().await.unwrap(),
                length => u64::from(length),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            reading.read_exact(&mut payload).await.unwrap();
            assert_eq!(first & 0xf0, FIN, "a frame of its own");
            frames.push((first & 0x0f, payload));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the connection does not end");
    drop(writer.await);
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_back_as_they_were_sent() {
    let function = watchdog::start(example::handler).await.unwrap();
    let goodbye = (CLOSE, 1000_u16.to_be_bytes().to_vec());
    for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 1 << 20, 16 << 20] {
        for opcode in [TEXT, BINARY] {
            let payload = vec![b'*'; length];
            let bytes = [whole(opcode, &payload), close(1000, b"")].concat();
            let frames = sent_back(&function.url(), &bytes, bytes.len()).await;
            assert!(frames == [(opcode, payload), goodbye.clone()], "{length} bytes");
        }
    }
    let text = "Hello-µ@ßöäüàá-UTF-8!! \u{10ffff}\u{feff}".as_bytes();
    for step in [1, 2, 7, 1000] {
        // Fragments within characters, and a ping and a pong between them.
        let parts = [
            frame(TEXT, &text[..7]),
            whole(PING, b"here?"),
            frame(CONTINUATION, b""),
            whole(PONG, b"not asked for"),
            frame(CONTINUATION, &text[7..15]),
            whole(CONTINUATION, &text[15..]),
            whole(PING, b""),
            whole(PING, &[0xff; 125]),
            close(1000, b""),
        ];
        let frames = sent_back(&function.url(), &parts.concat(), step).await;
        let pongs: Vec<_> = frames.iter().filter(|frame| frame.0 == PONG).map(|frame| frame.1.len()).collect();
        assert!(!pongs.is_empty() && pongs.iter().all(|length| [5, 0, 125].contains(length)), "{pongs:?}");
        let others: Vec<_> = frames.into_iter().filter(|frame| frame.0 != PONG).collect();
        assert_eq!(others, [(TEXT, text.to_vec()), goodbye.clone()], "{step} bytes at a time");
    }
    function.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rfc_6455_forbids_ends_the_connection_and_is_not_sent_back() {
    let function = watchdog::start(example::handler).await.unwrap();
    let mut cases = Vec::new();
    for reserved in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70] {
        cases.extend([TEXT, BINARY, PING, CLOSE].map(|opcode| whole(opcode | reserved, b"")));
    }
    cases.extend([3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map(|opcode| whole(opcode, b"x")));
    cases.extend([PING, PONG, CLOSE].map(|opcode| whole(opcode, &[0; 126])));
    cases.extend([PING, PONG, CLOSE].map(|opcode| frame(opcode, b"")));
    cases.push(whole(CONTINUATION, b"of nothing"));
    cases.push(frame(CONTINUATION, b"of nothing"));
    cases.push([frame(TEXT, b"begun"), whole(TEXT, b"again")].concat());
    cases.push([frame(BINARY, b"begun"), frame(BINARY, b"again")].concat());
    // Not masked.
    cases.push([FIN | TEXT, 2, b'o', b'k'].to_vec());
    let utf8: [&[u8]; 11] = [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\xf4\x90\x80\x80",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xed\xbf\xbf",
        b"\xff",
        b"\x80",
        b"\xce",
    ];
    cases.extend(utf8.map(|text| whole(TEXT, text)));
    cases.push([frame(TEXT, b"\xce"), whole(CONTINUATION, b"\xce")].concat());
    for case in &cases {
        let bytes = [case.as_slice(), &whole(TEXT, b"behind"), &close(1000, b"")].concat();
        let frames = sent_back(&function.url(), &bytes, bytes.len()).await;
        assert!(!frames.iter().any(|frame| [TEXT, BINARY].contains(&frame.0)), "{case:x?}: {frames:x?}");
    }
    function.stop().await;
}

#[tokio::test]
async fn a_close_is_answered_and_nothing_behind_it() {
    let function = watchdog::start(example::handler).await.unwrap();
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        let bytes = [close(code, b"why"), whole(TEXT, b"behind"), whole(PING, b"behind")].concat();
        let frames = sent_back(&function.url(), &bytes, bytes.len()).await;
        assert!(
            matches!(frames.as_slice(), [(CLOSE, payload)] if payload[..2] == code.to_be_bytes()),
            "{code}: {frames:x?}"
        );
    }
    let frames = sent_back(&function.url(), &whole(CLOSE, b""), 100).await;
    assert_eq!(frames, [(CLOSE, Vec::new())]);
    function.stop().await;
}
