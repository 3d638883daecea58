//! A function for the tests of `local`: it shows what reached it, and fails when asked to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if let Ok(code) = variable("exit_at_start").parse() {
        eprintln!("cannot start: the variable exit_at_start says so");
        std::process::exit(code);
    }
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, variable("port").parse()?))).await?;
    eprintln!("listening, version {}", variable("version"));
    let mut terminate = signal(SignalKind::terminate())?;
    let serving = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    };
    tokio::select! {
        () = serving => {}
        _ = terminate.recv() => {}
    }
    while UNDER_WAY.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eprintln!("drained");
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    UNDER_WAY.fetch_add(1, Ordering::SeqCst);
    let answer = route(request).await;
    UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    Ok(answer.unwrap_or_else(|error| {
        let mut response = Response::new(Body::from(error.to_string()));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    }))
}

async fn route(request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    Ok(match parts.uri.path() {
        "/_/health" => Response::new(Body::from("OK")),
        "/exit" => {
            eprintln!("as asked, exit code {query}");
            std::process::exit(query.parse()?)
        }
        "/slow" => {
            eprintln!("slow request");
            tokio::time::sleep(Duration::from_secs_f64(query.parse()?)).await;
            Response::new(Body::from("slow"))
        }
        "/redirect" => Response::builder()
            .status(StatusCode::FOUND)
            .header(header::LOCATION, "/elsewhere?a=b")
            .header(header::SET_COOKIE, "one=1; Path=/")
            .header(header::SET_COOKIE, "two=2")
            .body(Body::empty())?,
        "/status" => Response::builder().status(query.parse::<u16>()?).body(Body::from("as asked"))?,
        "/break" => {
            let cut = async {
                tokio::task::yield_now().await;
                Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
            };
            let half = stream::once(async { Ok("half") });
            Response::new(Body::from_stream(half.chain(stream::once(cut))))
        }
        // Two pieces, the second of which never comes.
        "/stream" => {
            let first = stream::once(async { std::io::Result::Ok("first") });
            Response::new(Body::from_stream(first.chain(stream::pending())))
        }
        "/secrets" => {
            let mut secrets = BTreeMap::new();
            for entry in std::fs::read_dir(std::env::var("secret_mount_path")?)? {
                let path = entry?.path();
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                secrets.insert(name.unwrap_or_default(), std::fs::read_to_string(path)?);
            }
            Response::new(Body::from(serde_json::to_vec(&secrets)?))
        }
        _ => {
            let headers: Vec<_> = parts
                .headers
                .iter()
                .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
                .collect();
            let body = body.collect().await?.to_bytes();
            let seen = json!({
                "method": parts.method.as_str(),
                "target": parts.uri.to_string(),
                "headers": headers,
                "body": String::from_utf8_lossy(&body),
                "pid": std::process::id(),
                "environment": std::env::vars().collect::<BTreeMap<_, _>>(),
            });
            let response = Response::builder();
            let response = match query {
                "typed" => response.header(header::CONTENT_TYPE, "application/json"),
                _ => response,
            };
            response.body(Body::from(serde_json::to_vec(&seen)?))?
        }
    })
}
