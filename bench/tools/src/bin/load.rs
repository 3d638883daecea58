//! Asks a server at a fixed rate: `load PORT CONNECTIONS RATE SECONDS [PATH [BEARER]]`. Prints the latencies' 50th and 99th
//! percentile in microseconds.
//!
//! A latency counts from when its request was due, if the connection was still busy then: a server that stalls does not
//! slow its own measurement down. Otherwise it counts from when the request was sent: how late a sleeper is woken is the
//! load program's own affair. One thread a connection, all of them blocking, so that no timer of a runtime rounds it up.

use std::{
    env,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

fn connection(port: u16, request: &[u8], start: Instant, every: Duration, count: u32) -> io::Result<Vec<u64>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::with_capacity(count as usize);
    let mut buffer = vec![0; 16384];
    for number in 0..count {
        let due = start + every * number;
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        let from = if wait.is_zero() { due } else { Instant::now() };
        stream.write_all(request)?;
        let mut filled = 0;
        // The answers measured here are short and end with their newline; a head ends with one, too.
        let head = |filled: &[u8]| filled.windows(4).position(|window| window == b"\r\n\r\n");
        while head(&buffer[..filled]).is_none_or(|at| at + 4 == filled) || buffer[filled - 1] != b'\n' {
            match stream.read(&mut buffer[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        if !buffer.starts_with(b"HTTP/1.1 200 ") {
            return Err(io::Error::other("an answer other than 200"));
        }
        latencies.push(from.elapsed().as_micros() as u64);
    }
    Ok(latencies)
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (numbers, rest) = arguments.split_at(arguments.len().min(4));
    let numbers: Vec<u32> = numbers.iter().map(|text| text.parse().expect("a number")).collect();
    let [port, connections, rate, seconds] = numbers[..] else { panic!("load PORT CONNECTIONS RATE SECONDS [PATH [BEARER]]") };
    let path = rest.first().map_or("/", String::as_str);
    let bearer = rest.get(1).map_or(String::new(), |bearer| format!("Authorization: Bearer {bearer}\r\n"));
    let request: Arc<[u8]> = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{bearer}\r\n").into_bytes().into();
    let every = Duration::from_secs(1) * connections / rate;
    let count = rate * seconds / connections;
    let begin = Instant::now() + Duration::from_millis(50);
    let threads: Vec<_> = (0..connections)
        .map(|number| {
            let start = begin + every * number / connections;
            let request = Arc::clone(&request);
            thread::spawn(move || connection(port as u16, &request, start, every, count))
        })
        .collect();
    let mut latencies = Vec::new();
    for thread in threads {
        latencies.extend(thread.join().expect("no panic")?);
    }
    latencies.sort_unstable();
    let at = |percent: usize| latencies[latencies.len() * percent / 100];
    println!("{} {}", at(50), at(99));
    Ok(())
}
