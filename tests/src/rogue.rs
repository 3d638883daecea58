use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A server that means ill: answers every request with whatever a test makes up, and remembers what it was sent.
#[derive(Debug)]
pub struct Rogue {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

#[allow(clippy::unwrap_used, reason = "a server that cannot be set up fails its test")]
impl Rogue {
    /// One that answers each request, head and body, with all of `answer`'s text; then it closes the connection.
    pub async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, seen) = (Arc::new(answer), Arc::<Mutex<Vec<String>>>::default());
        let all = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&all));
                tokio::spawn(async move {
                    let request = read(&mut stream).await?;
                    seen.lock().unwrap().push(request.clone());
                    stream.write_all(answer(&request).as_bytes()).await?;
                    stream.shutdown().await
                });
            }
        });
        Self { address, seen }
    }

    /// One that nobody should ever ask.
    pub async fn thief() -> Self {
        Self::start(|_| json("{\"access_token\":\"stolen\",\"success\":true,\"sales\":[]}")).await
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far, head and body.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// An answer of JSON, as it goes over the wire.
#[must_use]
pub fn json(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

async fn read(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.trim().parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return Ok(text.into_owned());
            }
        }
        let count = stream.read(&mut part).await?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.extend_from_slice(&part[..count]);
    }
}
