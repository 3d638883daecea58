//! One connection of the client, and the responses read from it, byte by byte.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// A client's connection with what was read ahead.
pub(crate) struct Connection {
    stream: TcpStream,
    ahead: Vec<u8>,
    /// When the first piece of what was sent last went out, and the last one.
    begun: Instant,
    pub(crate) sent: Instant,
    /// When the first of the bytes read ahead came.
    came: Instant,
}

/// How a read ended.
#[derive(PartialEq, Clone, Copy)]
enum Got {
    Bytes,
    End,
    Nothing,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr, receive_buffer: Option<usize>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_nodelay(true)?;
        let _ = receive_buffer; // A slow reader shows with any buffer when the answer is large enough.
        let now = Instant::now();
        Ok(Self { stream, ahead: Vec::new(), begun: now, sent: now, came: now })
    }

    /// Writes the pieces; a server that has closed its side early is not an error here, its answer is looked at.
    pub(crate) fn send(&mut self, pieces: &Value, fill: &dyn Fn(&str) -> String) {
        let one = [pieces.clone()];
        let pieces = pieces.as_array().map_or(&one[..], |pieces| pieces);
        self.begun = Instant::now();
        for piece in pieces {
            if let Some(text) = piece.as_str() {
                self.write(&latin1(&fill(text)));
            } else if let Some(gap) = piece["gap_ms"].as_u64() {
                // An answer may come before all is sent.
                let until = Instant::now() + Duration::from_millis(gap);
                while self.fill(until) == Got::Bytes {}
                thread::sleep(until.saturating_duration_since(Instant::now()));
            } else if let Some(text) = piece["repeat"].as_str() {
                let n = piece["n"].as_u64().expect("n") as usize;
                self.write(&latin1(text).repeat(n));
            } else if let Some(size) = piece["chunked"].as_u64() {
                let (mut left, size) = (piece["n"].as_u64().expect("n") as usize, size as usize);
                while left > 0 {
                    let n = left.min(size);
                    let mut chunk = format!("{n:x}\r\n").into_bytes();
                    chunk.resize(chunk.len() + n, b'u');
                    chunk.extend_from_slice(b"\r\n");
                    self.write(&chunk);
                    left -= n;
                }
                self.write(b"0\r\n\r\n");
            } else {
                panic!("unknown piece {piece}");
            }
        }
        self.sent = Instant::now();
    }

    fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn shut_write(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.sent = Instant::now();
    }

    fn fill(&mut self, until: Instant) -> Got {
        let mut buffer = [0; 65536];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Got::Nothing;
            }
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("a timeout above zero");
            match self.stream.read(&mut buffer) {
                Ok(0) => return Got::End,
                Ok(n) => {
                    if self.ahead.is_empty() {
                        self.came = Instant::now();
                    }
                    self.ahead.extend_from_slice(&buffer[..n]);
                    return Got::Bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(_) => return Got::End,
            }
        }
    }

    /// What comes within `wait`, as it is.
    pub(crate) fn raw(&mut self, wait: Duration) -> Value {
        let until = Instant::now() + wait;
        let mut got = Got::Bytes;
        while got == Got::Bytes {
            got = self.fill(until);
        }
        let raw = text(&std::mem::take(&mut self.ahead));
        json!({"raw": raw, "conn": if got == Got::End { "closed" } else { "open" }})
    }

    /// Waits for the close.
    pub(crate) fn end(&mut self, from: Instant, wait: Duration) -> Value {
        let until = Instant::now() + wait;
        loop {
            match self.fill(until) {
                Got::Bytes => {}
                Got::End => return json!({"conn": "closed", "time_s": from.elapsed().as_secs_f64()}),
                Got::Nothing => return json!({"conn": "open", "waited_s": wait.as_secs_f64()}),
            }
        }
    }

    /// Reads one response, as the record describes it.
    pub(crate) fn response(&mut self, method: &str, wait: Duration, slow: Option<Duration>, stream: bool) -> Value {
        let until = Instant::now() + wait;
        let mut interim = Vec::new();
        let (line, headers) = loop {
            let head = loop {
                if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                    break self.ahead.drain(..end + 4).collect::<Vec<_>>();
                }
                match self.fill(until) {
                    Got::Bytes => {}
                    Got::End if self.ahead.is_empty() => {
                        return json!({"outcome": "closed", "time_s": self.begun.elapsed().as_secs_f64()});
                    }
                    Got::End => {
                        return json!({"outcome": "garbage", "raw": text(&self.ahead)});
                    }
                    Got::Nothing => return json!({"outcome": "nothing", "waited_s": wait.as_secs_f64()}),
                }
            };
            let head = text(&head);
            let mut lines = head.trim_end_matches("\r\n").split("\r\n");
            let line = lines.next().expect("a first line").to_owned();
            let status: u16 = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let headers: Vec<_> = lines
                .map(|line| line.split_once(':').unwrap_or((line, "")))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            break (line, headers);
        };
        let mut observed = Map::new();
        observed.insert("time_s".into(), json!(self.came.saturating_duration_since(self.begun).as_secs_f64()));
        if let Some(slow) = slow {
            thread::sleep(slow);
        }
        let mut parts = line.splitn(3, ' ');
        let version = parts.next().unwrap_or_default();
        let status: u16 = parts.next().and_then(|code| code.parse().ok()).unwrap_or(0);
        observed.insert("version".into(), json!(version));
        observed.insert("status".into(), json!(status));
        observed.insert("reason".into(), json!(parts.next().unwrap_or_default()));
        if !interim.is_empty() {
            observed.insert("interim".into(), json!(interim));
        }
        let mut named = Map::new();
        for (name, value) in &headers {
            match named.get_mut(name) {
                None => drop(named.insert(name.clone(), json!(value))),
                Some(Value::Array(values)) => values.push(json!(value)),
                Some(first) => *first = json!([first.clone(), value]),
            }
        }
        let header = |name: &str| headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str());
        observed.insert("headers".into(), Value::Object(named));

        let mut body = Body::new(stream.then_some(self.sent));
        let length = header("content-length").and_then(|length| length.parse::<usize>().ok());
        let (framing, complete) = if method == "HEAD" || status == 101 || status == 204 || status == 304 {
            ("none", true)
        } else if header("transfer-encoding") == Some("chunked") {
            ("chunked", self.chunked(&mut body, until, &mut observed))
        } else if let Some(length) = length {
            ("content-length", self.counted(&mut body, length, until))
        } else {
            let mut got = Got::Bytes;
            while got == Got::Bytes {
                body.take(&mut self.ahead, usize::MAX);
                got = self.fill(until);
            }
            ("until-close", true)
        };
        observed.insert("end_s".into(), json!(self.begun.elapsed().as_secs_f64()));
        observed.insert("framing".into(), json!(framing));
        if !complete {
            observed.insert("complete".into(), json!(false));
        }
        body.describe(&mut observed);
        observed.insert("conn".into(), json!(if status == 101 { "upgraded" } else { self.state() }));
        Value::Object(observed)
    }

    fn counted(&mut self, body: &mut Body, length: usize, until: Instant) -> bool {
        loop {
            let left = length - body.bytes.len();
            body.take(&mut self.ahead, left);
            if body.bytes.len() == length {
                return true;
            }
            if self.fill(until) != Got::Bytes {
                return false;
            }
        }
    }

    fn chunked(&mut self, body: &mut Body, until: Instant, observed: &mut Map<String, Value>) -> bool {
        loop {
            while find(&self.ahead, b"\r\n").is_none() {
                if self.fill(until) != Got::Bytes {
                    return false;
                }
            }
            let end = find(&self.ahead, b"\r\n").expect("just found");
            let line = text(&self.ahead.drain(..end + 2).collect::<Vec<_>>());
            let size = usize::from_str_radix(line.trim_end().split(';').next().unwrap_or(""), 16).expect("a size");
            if size == 0 {
                let mut trailers = Vec::new();
                loop {
                    while find(&self.ahead, b"\r\n").is_none() {
                        if self.fill(until) != Got::Bytes {
                            return false;
                        }
                    }
                    let end = find(&self.ahead, b"\r\n").expect("just found");
                    let line = text(&self.ahead.drain(..end + 2).collect::<Vec<_>>());
                    if line == "\r\n" {
                        break;
                    }
                    trailers.push(line.trim_end().to_owned());
                }
                if !trailers.is_empty() {
                    observed.insert("trailers".into(), json!(trailers));
                }
                return true;
            }
            let already = body.bytes.len();
            if !self.counted(body, already + size, until) {
                return false;
            }
            while self.ahead.len() < 2 {
                if self.fill(until) != Got::Bytes {
                    return false;
                }
            }
            self.ahead.drain(..2);
        }
    }

    /// Whether the other side has closed a moment later.
    pub(crate) fn state(&mut self) -> &'static str {
        if !self.ahead.is_empty() {
            return "open";
        }
        match self.fill(Instant::now() + Duration::from_millis(120)) {
            Got::End => "closed",
            _ => "open",
        }
    }
}

/// A body as it comes, with the times of its pieces when they count.
struct Body {
    bytes: Vec<u8>,
    started: Option<Instant>,
    pieces: Vec<(f64, Vec<u8>)>,
}

impl Body {
    fn new(started: Option<Instant>) -> Self {
        Self { bytes: Vec::new(), started, pieces: Vec::new() }
    }

    fn take(&mut self, ahead: &mut Vec<u8>, at_most: usize) {
        let piece: Vec<u8> = ahead.drain(..ahead.len().min(at_most)).collect();
        if piece.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(&piece);
        let Some(started) = self.started else { return };
        let at = started.elapsed().as_secs_f64();
        match self.pieces.last_mut() {
            // What comes at once belongs together, however the system cuts it.
            Some((last, bytes)) if at - *last < 0.05 => bytes.extend_from_slice(&piece),
            _ => self.pieces.push((at, piece)),
        }
    }

    fn describe(self, observed: &mut Map<String, Value>) {
        let sha256: String = Sha256::digest(&self.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        observed.insert("len".into(), json!(self.bytes.len()));
        observed.insert("sha256".into(), json!(sha256));
        observed.insert("body".into(), json!(text(&self.bytes)));
        if let Ok(json) = serde_json::from_slice::<Value>(&self.bytes) {
            observed.insert("json".into(), json);
        }
        if self.started.is_some() {
            let pieces: Vec<_> = self.pieces.iter().map(|(at, bytes)| json!([at, text(bytes)])).collect();
            observed.insert("pieces".into(), json!(pieces));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// One byte a character, as the record writes bytes.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect()
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
