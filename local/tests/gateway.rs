//! The gateway as callers and functions meet it, over sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Method, header};
use serde_json::{Value, json};
use support::{Place, Seen, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ECHO: &str = "  echo:\n    lang: none\n    handler: ./echo\n    image: sample\n";

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
async fn the_rest_api_wants_the_operator_and_the_functions_do_not() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    for path in ["/system/functions", "/system/secrets", "/system/info", "/system/namespaces", "/system/logs?name=echo"]
    {
        for request in [
            running.http.get(running.at(path)),
            running.http.get(running.at(path)).basic_auth("admin", Some("wrong")),
            running.http.get(running.at(path)).basic_auth("root", Some(&running.password)),
            running.http.get(running.at(path)).bearer_auth(&running.password),
        ] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{path}");
            assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Basic realm=\"Restricted\"");
            assert_eq!(answer.text().await.unwrap(), "invalid credentials");
        }
        assert_eq!(running.system(Method::GET, path).send().await.unwrap().status(), 200, "{path}");
    }
    assert_eq!(running.get("/healthz").await.status(), 200);
    assert_eq!(running.get("/function/echo").await.status(), 200);
    running.local.stop().await;
}

#[tokio::test]
async fn a_function_sees_its_own_environment_and_nothing_of_ours() {
    let running = Place::new(&format!("{ECHO}    environment:\n      own: value\n")).start(&["echo"]).await;
    let seen = running.seen("/function/echo").await;
    let environment = seen.environment();
    assert_eq!(environment["own"], "value");
    let allowed = [
        "own",
        "port",
        "metrics_port",
        "secret_mount_path",
        "TMPDIR",
        "healthcheck_interval",
        "PATH",
        "HOME",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        // What a shell sets by itself.
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    ];
    let foreign: Vec<_> = environment.keys().filter(|name| !allowed.contains(name)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    running.local.stop().await;
}

#[tokio::test]
async fn a_function_sees_the_secrets_that_it_lists_and_changes_of_them() {
    let place = Place::new(&format!("{ECHO}    secrets: [oauth2-access-token, basic-auth-password]\n"));
    let running = place.start(&["echo"]).await;
    assert_eq!(running.write(Method::POST, "/system/secrets", &json!({"name": "other", "value": "x"})).await, 202);
    let read = async || running.get("/function/echo/secrets").await.json::<Value>().await.unwrap();
    let password = running.password.clone();
    assert_eq!(read().await, json!({"oauth2-access-token": "empty", "basic-auth-password": password}));
    let change = json!({"name": "oauth2-access-token", "value": "new"});
    assert_eq!(running.write(Method::PUT, "/system/secrets", &change).await, 202);
    assert_eq!(read().await["oauth2-access-token"], "new");
    running.local.stop().await;
}

#[tokio::test]
async fn s20_requests_for_other_hosts_are_refused_on_every_route_of_gateway_and_sandbox() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let urls = running.local.urls();
    for (url, path) in [
        (&urls.gateway, "/function/echo"),
        (&urls.gateway, "/async-function/echo"),
        (&urls.gateway, "/system/functions"),
        (&urls.gateway, "/local/build/echo"),
        (&urls.gateway, "/healthz"),
        (urls.provider.as_ref().unwrap(), "/admin/faults"),
        (urls.provider.as_ref().unwrap(), "/oauth/authorize"),
        (urls.provider.as_ref().unwrap(), "/v2/sales"),
    ] {
        let address = url.replace("http://", "");
        let port = address.rsplit_once(':').unwrap().1;
        let status = async |target: &str, hosts: &[&str]| {
            let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let request = format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer[9..12].parse::<u16>().unwrap()
        };
        for host in ["evil.example", &format!("evil.example:{port}"), &format!("127.0.0.1.evil.example:{port}")] {
            assert_eq!(status(path, &[host]).await, 421, "{path} {host}");
        }
        assert_eq!(status(&format!("http://evil.example{path}"), &["localhost"]).await, 421, "{path}");
        assert_eq!(status(path, &["localhost", "localhost"]).await, 400, "{path}");
        assert_eq!(status(path, &[]).await, 400, "{path}");
        for host in ["localhost", &format!("localhost:{port}"), &address] {
            assert!(![400, 421].contains(&status(path, &[host]).await) || path.contains("authorize"), "{path} {host}");
        }
    }
    let refused = running.http.get(running.at("/healthz")).header("host", "evil.example").send().await.unwrap();
    assert!(refused.text().await.unwrap().contains("--allowed-host"));
    running.local.stop().await;
}

#[tokio::test]
async fn a_name_that_is_allowed_is_answered_to() {
    let place = Place::new(ECHO);
    let options = local::Options { allowed_hosts: vec!["tunnel.example".to_owned()], ..place.options(&["echo"]) };
    let local = local::Local::start(options).await.unwrap();
    let url = local.urls().functions["echo"].clone();
    let answer = reqwest::Client::new().get(url).header("host", "tunnel.example").send().await.unwrap();
    assert_eq!(Seen::of(answer).await.headers("x-forwarded-host"), ["tunnel.example"]);
    local.stop().await;
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
async fn the_status_of_a_function_always_has_labels_annotations_and_its_name() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    for path in ["/system/function/echo", "/system/functions"] {
        let answer = running.read(path).await;
        let status = answer.get(0).unwrap_or(&answer);
        assert_eq!(status["labels"], json!({"faas_function": "echo"}), "{path}");
        assert_eq!(status["annotations"], json!({}), "{path}");
    }
    running.local.stop().await;
}

#[tokio::test]
async fn the_process_of_a_deployment_is_a_variable_of_the_function() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    assert!(!running.seen("/function/echo").await.environment().contains_key("fprocess"));
    let spec = json!({"service": "echo", "image": "sample", "envProcess": "sha512sum -b"});
    assert_eq!(running.write(Method::PUT, "/system/functions", &spec).await, 202);
    until(async || running.seen("/function/echo").await.environment().get("fprocess") == Some(&"sha512sum -b")).await;
    assert_eq!(running.read("/system/function/echo").await["envProcess"], "sha512sum -b");
    running.local.stop().await;
}

#[tokio::test]
async fn no_replicas_cannot_be_asked_for() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let scale = async |name: &str, replicas: Value| {
        running.write(Method::POST, &format!("/system/scale-function/{name}"), &json!({"replicas": replicas})).await
    };
    assert_eq!(scale("echo", json!(0)).await, 400);
    assert_eq!(running.read("/system/function/echo").await["replicas"], 1);
    assert_eq!((scale("echo", json!(2)).await, scale("nope", json!(2)).await), (202, 404));
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
async fn functions_of_other_languages_are_left_out_and_the_others_are_served() {
    let others = "  python:\n    lang: python3-http\n    handler: ./p\n    image: p\n    secrets: [my-own]\n  \
                  docker:\n    lang: dockerfile\n    handler: ./d\n    image: d\n";
    let running = Place::new(&format!("{ECHO}{others}")).start(&["echo"]).await;
    assert_eq!(running.get("/function/echo").await.status(), 200);
    assert_eq!(running.get("/function/python").await.status(), 404);
    assert_eq!(running.local.urls().functions.keys().collect::<Vec<_>>(), ["echo"]);
    running.local.stop().await;
    let none = Place::new(others);
    let message = format!("{:#}", local::Local::start(none.options(&[])).await.unwrap_err());
    assert!(message.contains("python: there is no template python3-http") && message.contains("docker"), "{message}");
}

#[tokio::test]
async fn only_the_functions_that_are_named_are_started() {
    let two = format!("{ECHO}  other:\n    lang: none\n    image: sample\n    secrets: [my-own]\n");
    let place = Place::new(&two);
    let only = |name: &str| local::Options { only: vec![name.to_owned()], ..place.options(&["echo", "other"]) };
    let local = local::Local::start(only("echo")).await.unwrap();
    assert_eq!(local.urls().functions.keys().collect::<Vec<_>>(), ["echo"]);
    local.stop().await;
    let message = format!("{:#}", local::Local::start(only("nope")).await.unwrap_err());
    assert!(message.contains("nope") && message.contains("echo, other"), "{message}");
}

#[tokio::test]
async fn replicas_take_requests_in_turn() {
    let labels = "    labels:\n      com.openfaas.scale.min: \"3\"\n";
    let running = Place::new(&format!("{ECHO}{labels}")).start(&["echo"]).await;
    let mut pids = Vec::new();
    for _ in 0..6 {
        pids.push(running.seen("/function/echo").await.0["pid"].as_u64().unwrap());
    }
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(pids[..3], pids[3..]);
    let status = running.read("/system/function/echo").await;
    assert_eq!((&status["replicas"], &status["availableReplicas"]), (&json!(3), &json!(3)));
    assert_eq!(status["invocationCount"], 6);
    let down = running.write(Method::POST, "/system/scale-function/echo", &json!({"replicas": 1})).await;
    assert_eq!((down, running.read("/system/function/echo").await["availableReplicas"].as_u64()), (202, Some(1)));
    running.local.stop().await;
}

#[tokio::test]
async fn a_function_that_dies_is_started_again_and_meanwhile_503() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let before = running.seen("/function/echo").await.0["pid"].clone();
    let died = running.get("/function/echo/exit?3").await;
    assert_eq!(died.status(), 500);
    assert_eq!(died.headers()["x-openfaas-internal"], "proxy");
    assert_eq!(died.text().await.unwrap(), "Can't reach service for: echo.\n");
    let away = running.get("/function/echo").await;
    if away.status() == 503 {
        assert_eq!(away.text().await.unwrap(), "No endpoints available for: echo.\n");
    }
    until(async || running.get("/function/echo").await.status() == 200).await;
    assert_ne!(running.seen("/function/echo").await.0["pid"], before);
    let logs = running.system(Method::GET, "/system/logs?name=echo").send().await.unwrap().text().await.unwrap();
    assert!(logs.contains("ended with exit code 3; starting it again in"), "{logs}");
    running.local.stop().await;
}

#[tokio::test]
async fn at_the_end_requests_under_way_are_finished_and_nothing_is_left() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let pid = running.seen("/function/echo").await.0["pid"].as_u64().unwrap();
    let slow = tokio::spawn(running.http.get(running.at("/function/echo/slow?0.3")).send());
    until(async || {
        let logs = running.system(Method::GET, "/system/logs?name=echo").send().await.unwrap();
        logs.text().await.unwrap().contains("slow request")
    })
    .await;
    running.local.stop().await;
    assert_eq!(slow.await.unwrap().unwrap().text().await.unwrap(), "slow");
    assert!(!std::path::Path::new(&format!("/proc/{pid}/stat")).exists());
    let left: Vec<_> = std::fs::read_dir(running.place.path().join(".local")).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with("run")), "{left:?}");
}

#[tokio::test]
async fn logs_are_kept_cut_and_followed() {
    let running = Place::new(&format!("{ECHO}    environment:\n      version: one\n")).start(&["echo"]).await;
    let lines = async |query: &str| {
        let answer = running.system(Method::GET, &format!("/system/logs?name=echo{query}")).send().await.unwrap();
        let text = answer.text().await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let all = lines("").await;
    let listening = all.iter().find(|line| line["text"] == "listening, version one").unwrap();
    assert_eq!((&listening["name"], &listening["namespace"]), (&json!("echo"), &json!("openfaas-fn")));
    assert_eq!(listening["instance"], "0");
    assert!(listening["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(lines("&tail=1&follow=false").await, all[all.len() - 1..]);
    assert_eq!(lines("&tail=-1").await, all);
    assert!(lines("&since=2099-01-01T00:00:00Z").await.is_empty());
    let mut followed = running.system(Method::GET, "/system/logs?name=echo&follow=true&tail=0").send().await.unwrap();
    running.get("/function/echo/slow?0").await;
    let line: Value = serde_json::from_slice(&followed.chunk().await.unwrap().unwrap()).unwrap();
    assert_eq!(line["text"], "slow request");
    let unknown = running.system(Method::GET, "/system/logs?name=nope").send().await.unwrap();
    assert_eq!((unknown.status().as_u16(), unknown.text().await.unwrap().as_str()), (404, ""));
    running.local.stop().await;
    assert!(followed.text().await.is_ok(), "the end is an end, not a break");
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

#[tokio::test]
async fn a_deployment_replaces_the_instances_without_a_gap() {
    let running = Place::new(&format!("{ECHO}    environment:\n      version: one\n")).start(&["echo"]).await;
    let before = running.seen("/function/echo").await;
    let spec = json!({"service": "echo", "image": "sample:latest", "envVars": {"version": "two"},
        "labels": {"team": "a"}, "annotations": {"topic": "cron-function"}});
    assert_eq!(running.write(Method::PUT, "/system/functions", &spec).await, 202);
    let after = loop {
        let answer = running.get("/function/echo").await;
        assert_eq!(answer.status(), 200);
        let seen = Seen::of(answer).await;
        if seen.environment()["version"] == "two" {
            break seen;
        }
    };
    assert_ne!(before.0["pid"], after.0["pid"]);
    let status = running.read("/system/function/echo").await;
    assert_eq!(
        (&status["labels"], &status["annotations"]),
        (&json!({"team": "a", "faas_function": "echo"}), &json!({"topic": "cron-function"}))
    );
    running.local.stop().await;
}

#[tokio::test]
async fn a_deployment_that_does_not_start_leaves_the_old_one_serving() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let pid = running.seen("/function/echo").await.0["pid"].clone();
    let spec = json!({"service": "echo", "image": "sample", "envVars": {"exit_at_start": "64"}});
    assert_eq!(running.write(Method::PUT, "/system/functions", &spec).await, 202);
    until(async || {
        let logs = running.system(Method::GET, "/system/logs?name=echo").send().await.unwrap();
        logs.text().await.unwrap().contains("ended with exit code 64")
    })
    .await;
    assert_eq!(running.seen("/function/echo").await.0["pid"], pid);
    let spec = json!({"service": "echo", "image": "sample", "envVars": {"version": "good"}});
    assert_eq!(running.write(Method::PUT, "/system/functions", &spec).await, 202);
    until(async || running.seen("/function/echo").await.0["pid"] != pid).await;
    running.local.stop().await;
}

#[tokio::test]
async fn deployments_that_cannot_be_are_refused() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let message = async |spec: Value| {
        let answer = running.system(Method::PUT, "/system/functions").json(&spec).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let secret = message(json!({"service": "echo", "image": "sample", "secrets": ["nope"]})).await;
    assert_eq!(secret, (400, "unable to fetch secrets: nope\n".to_owned()));
    assert_eq!(message(json!({"service": "new", "image": "sample"})).await.0, 404);
    assert_eq!(message(json!({"service": "new", "image": "elsewhere/x"})).await.0, 400);
    assert_eq!(message(json!({"service": "Bad", "image": "sample"})).await.0, 400);
    assert_eq!(running.system(Method::PUT, "/system/functions").body("{").send().await.unwrap().status(), 400);
    running.local.stop().await;
}

#[test]
fn the_function_ends_when_local_is_dropped_without_stop() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pid = runtime.block_on(async {
        let running = Place::new(ECHO).start(&["echo"]).await;
        running.seen("/function/echo").await.0["pid"].as_u64().unwrap()
    });
    // Every task is dropped where it stands.
    drop(runtime);
    while std::path::Path::new(&format!("/proc/{pid}/stat")).exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_one_message() {
    let message = async |options| match local::Local::start(options).await {
        Ok(_) => panic!("it started"),
        Err(error) => format!("{error:#}"),
    };
    let place = Place::new(ECHO);
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = place.options(&["echo"]);
    options.gateway = taken.local_addr().unwrap();
    assert!(message(options).await.contains("--gateway"));
    std::fs::remove_file(place.path().join("stack.yaml")).unwrap();
    assert!(message(place.options(&["echo"])).await.contains("stack.yaml"));
    let fails = Place::new(&format!("{ECHO}    environment:\n      exit_at_start: 64\n"));
    let text = message(fails.options(&["echo"])).await;
    assert!(text.contains("echo") && text.contains("64"), "{text}");
    let needs = Place::new(&format!("{ECHO}    secrets: [my-own]\n"));
    let text = message(needs.options(&["echo"])).await;
    assert!(text.contains("my-own") && text.contains("echo"), "{text}");
    tokio::time::timeout(Duration::from_secs(1), taken.accept()).await.unwrap_err();
}
