use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A road to a server that can be closed: connections break at once while it is.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    target: Arc<Mutex<Option<String>>>,
    open: watch::Sender<bool>,
}

#[allow(clippy::unwrap_used, reason = "a relay that cannot be set up fails its test")]
impl Relay {
    /// A closed one, on a port of the system's choice.
    pub async fn closed() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target: Arc<Mutex<Option<String>>> = Arc::default();
        let (open, is_open) = watch::channel(false);
        let to = Arc::clone(&target);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let target = to.lock().unwrap().clone().filter(|_| *is_open.borrow());
                let Some(target) = target else { continue };
                let mut closes = is_open.clone();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await?;
                    tokio::select! {
                        copied = tokio::io::copy_bidirectional(&mut near, &mut far) => copied.map(drop),
                        _ = closes.wait_for(|open| !open) => Ok(()),
                    }
                });
            }
        });
        Self { address, target, open }
    }

    /// Its own URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it leads once it is open.
    pub fn lead_to(&self, url: &str) {
        *self.target.lock().unwrap() = url.strip_prefix("http://").map(str::to_owned);
    }

    /// Opens it.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Closes it, to those who are on it, too.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
