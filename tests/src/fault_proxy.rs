use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
    http::request,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use reqwest::{Client, redirect::Policy};
use tokio::{net::TcpListener, task::AbortHandle};

/// What a road does to one request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request does not arrive; the connection closes.
    LoseRequest,
    /// In place of the server a gateway answers, with this status; the request does not arrive.
    Refuse(u16),
    /// The server answers, and the connection closes in place of its answer.
    LoseAnswer,
    /// The server answers, and a gateway's page of this status stands in place of its answer.
    Replace(u16),
    /// The server answers; half of that arrives, and nothing tells that there was more.
    Truncate,
    /// The server answers; half of that arrives, and the connection closes.
    Break,
    /// The server answers, and the answer takes so long.
    Delay(Duration),
    /// The server gets the request twice, as from a gateway that tries again, and its second answer arrives.
    Duplicate,
}

/// A road to an HTTP server: it carries every request and its answer, and does to one after another what was planned.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    road: Arc<Road>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Road {
    http: Client,
    target: String,
    plan: Mutex<VecDeque<Fault>>,
    requests: AtomicUsize,
}

#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a road that cannot be set up fails its test")]
impl FaultProxy {
    /// A road to the server at `url`, on a port of the system's choice.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let http = Client::builder().redirect(Policy::none()).pool_max_idle_per_host(0).build().unwrap();
        let road =
            Arc::new(Road { http, target: url.to_owned(), plan: Mutex::default(), requests: AtomicUsize::new(0) });
        let way = Arc::clone(&road);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let way = Arc::clone(&way);
                let service = service_fn(move |request| Arc::clone(&way).carry(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, road, accepting: accepting.abort_handle() }
    }

    /// Its own URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does this to the next requests that nothing is planned for, one each.
    pub fn plan(&self, faults: &[Fault]) {
        self.road.plan.lock().unwrap().extend(faults);
    }

    /// How many requests have come so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.road.requests.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Road {
    async fn carry(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Load>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let fault = self.plan.lock().map_err(|_| broken())?.pop_front();
        match fault {
            Some(Fault::LoseRequest) => return Err(broken()),
            Some(Fault::Refuse(status)) => return Ok(page(status)),
            _ => {}
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let mut answer = self.forward(&head, body.clone()).await.map_err(io::Error::other)?;
        match fault {
            Some(Fault::LoseAnswer) => return Err(broken()),
            Some(Fault::Replace(status)) => return Ok(page(status)),
            Some(Fault::Truncate) => answer.body_mut().halve(false),
            Some(Fault::Break) => answer.body_mut().halve(true),
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Duplicate) => answer = self.forward(&head, body).await.map_err(io::Error::other)?,
            _ => {}
        }
        Ok(answer)
    }

    async fn forward(&self, head: &request::Parts, body: Bytes) -> reqwest::Result<Response<Load>> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("{}{path}", self.target);
        let request = self.http.request(head.method.clone(), url).headers(end_to_end(&head.headers)).body(body);
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), end_to_end(answer.headers()));
        let mut response = Response::new(Load { data: Some(answer.bytes().await?), breaks: false });
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// What is between client and server, and not between each of them and the road.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn page(status: u16) -> Response<Load> {
    let text = "<html><body>The gateway has a problem.</body></html>";
    let mut response = Response::new(Load { data: Some(Bytes::from_static(text.as_bytes())), breaks: false });
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    response
}

/// A body that may break off.
#[derive(Debug)]
struct Load {
    data: Option<Bytes>,
    breaks: bool,
}

impl Load {
    fn halve(&mut self, breaks: bool) {
        self.breaks = breaks;
        if let Some(data) = &mut self.data {
            data.truncate(data.len() / 2);
        }
    }
}

impl Body for Load {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match self.data.take() {
            Some(data) => Some(Ok(Frame::data(data))),
            None => self.breaks.then(|| Err(broken())),
        })
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.data.as_ref().map_or(0, Bytes::len) as u64;
        if self.breaks { SizeHint::new() } else { SizeHint::with_exact(length) }
    }
}
