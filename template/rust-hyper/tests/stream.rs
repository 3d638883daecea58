//! A body of any length goes through without being held in memory. In a process of its own, whose memory is looked at.
//!
//! `STREAM_MIB` says how long the bodies are: 64 MiB unless told otherwise, which shows a buffer as well as 1 GiB does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test, which is to fail of a surprise")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{Router, body::Body, extract::Path, routing::get};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use watchdog::{Config, Watchdog};

const PIECE: usize = 64 << 10;
const MIB: u64 = 1 << 20;

/// So many pieces of zeros, made one by one.
struct Pieces(u64);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(vec![0; PIECE].into()))))
    }
}

async fn down(Path(mib): Path<u64>) -> Body {
    Body::new(Pieces(mib * MIB / PIECE as u64))
}

async fn up(mut body: Body) -> String {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().data_ref().map_or(0, Bytes::len) as u64;
    }
    length.to_string()
}

/// Bytes of the answer to one request, whose body of zeros is `mib` long.
async fn ask(address: SocketAddr, head: &str, mib: u64) -> (u64, Vec<u8>) {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let head = format!("{head} HTTP/1.1\r\nHost: fn\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", mib * MIB);
    let sending = tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![0; PIECE];
        for _ in 0..mib * MIB / PIECE as u64 {
            writer.write_all(&piece).await.unwrap();
        }
        writer
    });
    let (mut buffer, mut length, mut last) = (vec![0; PIECE], 0, Vec::new());
    loop {
        match reader.read(&mut buffer).await.unwrap() {
            0 => break,
            n => {
                length += n as u64;
                last = buffer[..n].to_vec();
            }
        }
    }
    sending.await.unwrap();
    (length, last)
}

/// Of this process, in KiB.
fn memory(what: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_not_held_in_memory() {
    let mib = std::env::var("STREAM_MIB").map_or(64, |mib| mib.parse().unwrap());
    let config = Config::from_strings(|name| match name {
        "suppress_lock" => Some("true".into()),
        // A gibibyte takes its time on a busy machine.
        "read_timeout" | "write_timeout" | "exec_timeout" => Some("10m".into()),
        _ => None,
    });
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let watchdog = Watchdog::bind(config.unwrap().with_address(any).with_metrics_address(None)).await.unwrap();
    let address = watchdog.address();
    let function = Router::new().route("/down/{mib}", get(down)).route("/up", axum::routing::post(up));
    tokio::spawn(watchdog.run(function, std::future::pending()));

    // Whatever is only made once is there.
    ask(address, "GET /down/4", 0).await;
    ask(address, "POST /up", 4).await;
    for way in ["down", "up"] {
        // Lets the peak begin anew.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = memory("VmRSS:");
        if way == "down" {
            let (length, _) = ask(address, &format!("GET /down/{mib}"), 0).await;
            assert!(length >= mib * MIB, "{length} bytes came");
        } else {
            let (_, answer) = ask(address, "POST /up", mib).await;
            assert!(answer.ends_with((mib * MIB).to_string().as_bytes()), "{}", String::from_utf8_lossy(&answer));
        }
        let added = memory("VmHWM:") - before;
        println!("{mib} MiB {way}: {added} KiB more of memory at the peak");
        assert!(added < 4 << 10, "{mib} MiB {way} took {added} KiB more");
    }
}
