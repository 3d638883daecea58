//! Asks a server for `/` at a fixed rate: `load PORT CONNECTIONS RATE SECONDS`. Prints the latencies' 50th and 99th
//! percentile in microseconds, counted from when a request was due, so that a server that stalls does not slow its own
//! measurement down.

use std::{env, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep_until},
};

async fn connection(port: u16, start: Instant, every: Duration, count: u32) -> std::io::Result<Vec<u64>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::with_capacity(count as usize);
    let mut buffer = vec![0; 16384];
    for number in 0..count {
        let due = start + every * number;
        sleep_until(due).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await?;
        let mut filled = 0;
        // The answers measured here are short and end with their newline.
        while filled == 0 || buffer[filled - 1] != b'\n' || !buffer[..filled].windows(4).any(|w| w == b"\r\n\r\n") {
            let n = stream.read(&mut buffer[filled..]).await?;
            if n == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            filled += n;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "the answer is not 200");
        latencies.push(due.elapsed().as_micros() as u64);
    }
    Ok(latencies)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<u32> = env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let [port, connections, rate, seconds] = arguments[..] else { panic!("load PORT CONNECTIONS RATE SECONDS") };
    let every = Duration::from_secs(1) * connections / rate;
    let count = rate * seconds / connections;
    let begin = Instant::now() + Duration::from_millis(50);
    let tasks: Vec<_> = (0..connections)
        .map(|number| tokio::spawn(connection(port as u16, begin + every * number / connections, every, count)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("no panic")?);
    }
    latencies.sort_unstable();
    let at = |percent: usize| latencies[latencies.len() * percent / 100];
    println!("{} {}", at(50), at(99));
    Ok(())
}
