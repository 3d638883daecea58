//! Asks a server for `/` at a fixed rate: `load PORT CONNECTIONS RATE SECONDS`. Prints the latencies' 50th and 99th
//! percentile in microseconds.
//!
//! A latency counts from when its request was due, if the connection was still busy then: a server that stalls does not
//! slow its own measurement down. Otherwise it counts from when the request was sent: how late a sleeper is woken is the
//! load program's own affair. One thread a connection, all of them blocking, so that no timer of a runtime rounds it up.

use std::{
    env,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

fn connection(port: u16, start: Instant, every: Duration, count: u32) -> io::Result<Vec<u64>> {
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
        stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut filled = 0;
        // The answers measured here are short and end with their newline.
        while filled == 0 || buffer[filled - 1] != b'\n' || !buffer[..filled].windows(4).any(|w| w == b"\r\n\r\n") {
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
    let arguments: Vec<u32> = env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let [port, connections, rate, seconds] = arguments[..] else { panic!("load PORT CONNECTIONS RATE SECONDS") };
    let every = Duration::from_secs(1) * connections / rate;
    let count = rate * seconds / connections;
    let begin = Instant::now() + Duration::from_millis(50);
    let threads: Vec<_> = (0..connections)
        .map(|number| {
            let start = begin + every * number / connections;
            thread::spawn(move || connection(port as u16, start, every, count))
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
