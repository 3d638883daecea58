//! A network that can be cut.

use std::net::SocketAddr;

use tokio::{net::TcpListener, sync::watch};

/// A way to a server that can be cut.
pub(crate) struct Detour {
    pub(crate) address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Detour {
    pub(crate) async fn to(server: &str) -> Self {
        let (listener, server) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), server.to_owned());
        let address = listener.local_addr().unwrap();
        let open = watch::Sender::new(false);
        let opened = open.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut opened) = (server.clone(), opened.subscribe());
                tokio::spawn(async move {
                    if *opened.borrow_and_update() {
                        let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                            _ = opened.wait_for(|open| !open) => {}
                        }
                    }
                });
            }
        });
        Self { address, open }
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }
}
