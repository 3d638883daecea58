//! A reverse proxy of hyper and nothing else: passes every request on to `upstream`, over connections that it keeps.

use std::sync::Arc;

use hyper::{Request, Uri, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

fn number(name: &str, default: u16) -> u16 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let upstream: Arc<str> = format!("127.0.0.1:{}", number("upstream", 8081)).into();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind(("127.0.0.1", number("port", 8080))).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (client, upstream) = (client.clone(), Arc::clone(&upstream));
        let service = service_fn(move |mut request: Request<Incoming>| {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let uri = Uri::builder().scheme("http").authority(&*upstream).path_and_query(path).build();
            *request.uri_mut() = uri.expect("the parts of another address");
            client.request(request)
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
