//! Requests to functions, and their answers.

use std::time::Duration;

use reqwest::{Method, header};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ECHO;
use crate::support::{self, Place, Seen};

#[tokio::test]
async fn the_function_sees_a_stripped_path_and_the_callers_query() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    for (path, target) in [
        ("/function/echo", "/"),
        ("/function/echo/", "/"),
        ("/function/echo.openfaas-fn/a/b/?c=%2Fd", "/a/b/?c=%2Fd"),
        ("/function/echo/a%252Fb", "/a/b"),
    ] {
        assert_eq!(running.seen(path).await.0["target"], target, "{path}");
    }
    let moved = running.get("/function/echo//a?b=c").await;
    assert_eq!((moved.status().as_u16(), &moved.headers()[header::LOCATION] == "/function/echo/a?b=c"), (301, true));
    running.local.stop().await;
}

#[tokio::test]
async fn headers_are_changed_as_the_community_edition_does() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let gateway = running.local.urls().gateway.replace("http://", "");
    let request = running.http.post(running.at("/function/echo")).header("te", "trailers").header("cookie", "a=b");
    let answer = request.header("authorization", "Bearer x").body("hello").send().await.unwrap();
    let id = answer.headers()["x-call-id"].to_str().unwrap().to_owned();
    assert_eq!(answer.headers()["x-served-by"].to_str().unwrap(), "openfaas-ce/0.27.14");
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/plain");
    assert!(answer.headers().contains_key("x-start-time"));
    let seen = Seen::of(answer).await;
    assert_eq!((seen.0["method"].as_str(), seen.0["body"].as_str()), (Some("POST"), Some("hello")));
    assert_eq!(seen.headers("x-call-id"), [id]);
    assert_eq!(seen.headers("x-forwarded-host"), [gateway.as_str()]);
    assert!(seen.headers("x-forwarded-for")[0].starts_with("127.0.0.1:"));
    assert_eq!((seen.headers("authorization"), seen.headers("cookie")), (vec!["Bearer x"], vec!["a=b"]));
    assert!(seen.headers("te").is_empty() && seen.headers("host")[0] != gateway);
    assert_eq!(seen.headers("user-agent"), ["openfaas-ce-gateway/0.27.14"]);
    running.local.stop().await;
}

#[tokio::test]
async fn what_a_client_forges_goes_through() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let request = running
        .http
        .get(running.at("/function/echo"))
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-forwarded-proto", "https")
        .header("x-call-id", "mine")
        .header("x-start-time", "1")
        .header("user-agent", "me");
    let answer = request.send().await.unwrap();
    assert!(!answer.headers().contains_key("x-call-id"), "it was the caller's own");
    let seen = Seen::of(answer).await;
    for (name, value) in
        [("host", "evil.example"), ("for", "1.2.3.4"), ("proto", "https")].map(|(n, v)| (format!("x-forwarded-{n}"), v))
    {
        assert_eq!(seen.headers(&name), [value]);
    }
    assert_eq!((seen.headers("x-call-id"), seen.headers("user-agent")), (vec!["mine"], vec!["me"]));
    assert_eq!((seen.headers("x-start-time").len(), seen.headers("x-start-time")[0]), (2, "1"));
    running.local.stop().await;
}

#[tokio::test]
async fn the_callers_port_stays_in_x_forwarded_for() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let mut stream = TcpStream::connect(running.local.urls().gateway.replace("http://", "")).await.unwrap();
    let own = stream.local_addr().unwrap().to_string();
    stream.write_all(b"GET /function/echo/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(&format!("[\"x-forwarded-for\",\"{own}\"]")), "{own}: {answer}");
    running.local.stop().await;
}

#[tokio::test]
async fn redirects_and_cookies_come_back_untouched() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let answer = running.get("/function/echo/redirect").await;
    assert_eq!((answer.status().as_u16(), &answer.headers()[header::LOCATION] == "/elsewhere?a=b"), (302, true));
    let cookies: Vec<_> = answer.headers().get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(cookies, ["one=1; Path=/", "two=2"]);
    running.local.stop().await;
}

#[tokio::test]
async fn content_type_is_the_functions_then_the_requests_then_plain() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let of = async |path: &str, sent: Option<&str>| {
        let request = running.http.post(running.at(path));
        let request = if let Some(sent) = sent { request.header(header::CONTENT_TYPE, sent) } else { request };
        let answer = request.send().await.unwrap();
        answer.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned()
    };
    assert_eq!(of("/function/echo?typed", Some("text/csv")).await, "application/json");
    assert_eq!(of("/function/echo", Some("text/csv")).await, "text/csv");
    assert_eq!(of("/function/echo", None).await, "text/plain");
    running.local.stop().await;
}

#[tokio::test]
async fn unknown_functions_paths_and_methods_have_their_statuses() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let unknown = running.get("/function/nope.openfaas-fn/x").await;
    assert_eq!(unknown.status(), 404);
    assert_eq!(unknown.text().await.unwrap(), "error finding function nope.openfaas-fn\n");
    assert_eq!(running.get("/function/echo.elsewhere").await.status(), 404);
    assert_eq!(running.get("/nowhere").await.status(), 404);
    assert_eq!(running.get("/function/echo/a%zz").await.status(), 400);
    let trace = running.http.request(Method::TRACE, running.at("/function/echo")).send().await.unwrap();
    assert_eq!(trace.status(), 405);
    let wrong = running.write(Method::PATCH, "/system/secrets", &json!({})).await;
    assert_eq!(wrong, 405);
    for method in ["HEAD", "OPTIONS", "DELETE", "PUT", "PATCH"] {
        let method: Method = method.parse().unwrap();
        assert_eq!(running.http.request(method, running.at("/function/echo")).send().await.unwrap().status(), 200);
    }
    running.local.stop().await;
}

#[tokio::test]
async fn a_faulty_request_costs_its_own_connection_only() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let address = running.local.urls().gateway.replace("http://", "");
    assert!(running.http.get(running.at("/function/echo/a%25zz")).send().await.is_err());
    for raw in [
        "GET /function/echo HTTP/1.1\r\nHost: a\r\nBad Header\r\n\r\n",
        "\0\0\0\r\n\r\n",
        "POST /function/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(raw.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Closed with an answer or without one.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{raw:?}");
    }
    assert!(running.get("/function/echo/break").await.text().await.is_err());
    assert_eq!(running.get("/function/echo").await.status(), 200);
    running.local.stop().await;
}

#[tokio::test]
async fn a_function_that_takes_longer_than_the_timeout_is_a_502_without_a_body() {
    let place = Place::new(ECHO);
    let options = local::Options { timeout: Duration::from_millis(50), ..place.options(&["echo"]) };
    let local = local::Local::start(options).await.unwrap();
    let url = local.urls().functions["echo"].clone();
    let slow = support::get(format!("{url}/slow?1000000")).await.unwrap();
    assert_eq!((slow.status().as_u16(), slow.text().await.unwrap().as_str()), (502, ""));
    assert_eq!(support::get(format!("{url}/slow?0")).await.unwrap().text().await.unwrap(), "slow");
    // The call that hangs would be waited for.
    drop(local);
}

#[tokio::test]
async fn only_event_streams_reach_the_caller_as_they_are_written() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let request = |accept: &str| running.http.get(running.at("/function/echo/stream")).header("accept", accept).send();
    let mut events = request("text/event-stream").await.unwrap();
    assert_eq!(events.chunk().await.unwrap().unwrap(), "first");
    let mut held = request("*/*").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), held.chunk()).await.is_err());
}

#[tokio::test]
async fn queued_calls_are_accepted_run_and_called_back() {
    let two = format!("{ECHO}  other:\n    lang: none\n    image: sample\n");
    let running = Place::new(&two).start(&["echo", "other"]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let callback = format!("http://{}/back?x=1", listener.local_addr().unwrap());
    let request = running.http.post(running.at("/async-function/echo.openfaas-fn/a?b=c")).body("hello");
    let answer = request.header("x-callback-url", &callback).header("x-call-id", "mine").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (202, ""));
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = String::new();
    while !seen.contains("\"target\"") {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
    for part in
        ["POST /back?x=1 HTTP/1.1", "X-Function-Status: 200", "X-Function-Name: echo.openfaas-fn", "X-Call-Id: mine"]
    {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    assert!(seen.contains("\"target\":\"/a?b=c\"") && seen.contains("\"body\":\"hello\""), "{seen}");
    drop(stream);
    assert_eq!(running.get("/async-function/echo").await.status(), 405);
    let bad = running.http.post(running.at("/async-function/echo")).header("x-callback-url", "no url");
    assert_eq!(bad.send().await.unwrap().status(), 400);
    let large = running.http.post(running.at("/async-function/echo")).body(vec![0; 256_001]);
    assert_eq!(large.send().await.unwrap().status(), 500);
    running.local.stop().await;
}
