//! Attacks by mass and by what is malformed.

use super::*;

#[tokio::test]
async fn flood_of_bogus_callbacks() {
    let stage = open().await;
    let victim = Browser::new();
    let callback = callback_of(&stage, &victim).await;
    let genuine = query(&callback, "state");
    let before = resident(&stage).await;
    let http = raw();
    let long = "A".repeat(4000);
    for round in 0..40 {
        let tries: Vec<_> = (0..50)
            .map(|index| {
                // Random ones, long ones, and the genuine one without its cookie, or bent a little.
                let state = match index % 4 {
                    0 => format!("{round}-{index}"),
                    1 => format!("{long}{round}{index}"),
                    2 => genuine.clone(),
                    _ => format!("{}{index:02}", &genuine[..genuine.len() - 2]),
                };
                let request = http.get(with(&callback, &[("code", "x"), ("state", &state)]));
                tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
            })
            .collect();
        for one in tries {
            assert_eq!(one.await.unwrap(), 400);
        }
    }
    nothing_asked(&stage);
    let grown = resident(&stage).await.saturating_sub(before);
    assert!(grown < 16 << 20, "2000 strangers are remembered in {grown} bytes");
    assert_eq!(victim.open(callback.as_str()).await.status, 200, "and who had begun is not put out by it");
    stage.stop().await;
}

/// Resident memory of the function, in bytes.
pub(super) async fn resident(stage: &Stage) -> u64 {
    let metrics = stage.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("process_resident_memory_bytes ")).unwrap();
    line.split(' ').nth(1).unwrap().parse::<f64>().unwrap() as u64
}

/// Sends bytes as they are; the status that comes back, and the body.
async fn bytes(port: u16, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // It may be refused before all of it is sent.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

#[tokio::test]
async fn oversize_and_malformed_everything() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = alone(1, folder.path(), &[]).await;
    let port = Url::parse(&fleet.url(0, "/")).unwrap().port().unwrap();
    let (long, huge) = ("a".repeat(20_000), "b".repeat(3 << 20));
    let get = |target: &str, head: &str| format!("GET {target} HTTP/1.1\r\nhost: f\r\nconnection: close\r\n{head}\r\n");
    let post = |path: &str, kind: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: f\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let form = "application/x-www-form-urlencoded";
    let mut requests = vec![
        get(&format!("/oauth2/callback?state={long}&code={long}"), ""),
        get("/oauth2/callback?state=%&code=%zz&iss=%ff%fe", ""),
        get("/oauth2/callback?state=%00&error=%00", ""),
        get("/oauth2/callback?&&&==&=&state", ""),
        get("/oauth2/callback?state=a&state=b", ""),
        get("/enable?account=a&account=b", ""),
        get("/enable?account=%ff", ""),
        get(&format!("/enable?account={long}"), ""),
        get("/enable?account=..%2f..%2fetc%2fpasswd", ""),
        get("/enable?account=.lease", ""),
        get("/enable?account=default%00", ""),
        get("/status", "authorization: Basic ====\r\n"),
        get("/status", "authorization: Basic\r\n"),
        get("/status", &format!("authorization: Bearer {long}\r\n")),
        get("/status", "authorization: Bearer \u{e9}\r\n"),
        get("/status", &format!("authorization: Basic {}\r\n", "AAAA".repeat(5000))),
        get("/enable", &format!("cookie: etl-oauth-form={long}\r\n")),
        get("/enable", &format!("cookie: {}\r\n", "a=b; ".repeat(3000))),
        get("/enable", "cookie: \"=;;;=;%zz;\u{ff}\r\n"),
        get("/done", &format!("cookie: etl-oauth-done={long}\r\n")),
        get("/oauth2/callback?state=x&code=y", &format!("cookie: etl-oauth-x={long}\r\n")),
        get("/enable", &"x-many: y\r\n".repeat(500)),
        get("/../../etc/passwd", ""),
        get("/%2e%2e/%2e%2e/etc/passwd", ""),
        get(&format!("/{long}"), ""),
        get("/\u{e9}", ""),
        get("*", ""),
        post("/enable", form, &huge),
        post("/refresh", form, &huge),
        post("/enable", form, "csrf=a&csrf=b&account=a&account=b"),
        post("/enable", form, "%ff%fe=%00&csrf=%zz"),
        post("/enable", "application/json", "{\"csrf\":[[[["),
        post("/enable", "multipart/form-data; boundary=", "--"),
        post("/revoke", "text/plain", "account=default"),
        post("/nowhere", form, &huge),
        "TRACE / HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n".into(),
        "CONNECT f:1 HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n".into(),
        "get / HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n".into(),
        "GET / HTTP/9.9\r\n\r\n".into(),
        "POST /enable HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n".into(),
        "POST /enable HTTP/1.1\r\nhost: f\r\ncontent-length: 99999999999999999999\r\n\r\n".into(),
        "POST /enable HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".into(),
        format!("GET /enable HTTP/1.1\r\nhost: f\r\nx: {}\r\n\r\n", "y".repeat(2 << 20)),
        "\u{0}\u{1}\u{2}\r\n\r\n".into(),
    ];
    // All routes get a body, a query and a method that they do not know.
    for path in
        ["/", "/enable", "/oauth2/callback", "/done", "/status", "/refresh", "/revoke", "/reseal", "/openapi.json"]
    {
        requests.push(format!("BREW {path}?%zz HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n"));
    }
    for request in &requests {
        let (status, answer) = bytes(port, request.as_bytes()).await;
        let begin: String = request.chars().take(80).collect();
        // 501 and 505 are what a transfer coding and a version that nobody knows get; nothing else may be our own fault.
        assert!(status < 500 || matches!(status, 501 | 505), "{begin}: {answer}");
        if (400..500).contains(&status) && answer.contains("application/json") {
            let body = answer.split_once("\r\n\r\n").unwrap().1;
            assert!(body.contains("\"error\":") && body.contains("\"next\":"), "{begin}: {answer}");
        }
    }
    // Those that are read are answered as everything is: JSON for who does not ask for a page.
    for (request, wanted) in [
        (get("/enable?account=a&account=b", ""), 400),
        (get("/enable?account=%ff", ""), 400),
        (post("/enable", form, &huge), 403),
        (post("/revoke", "text/plain", "account=default"), 404),
    ] {
        let (status, answer) = bytes(port, request.as_bytes()).await;
        assert_eq!(status, wanted, "{answer}");
        assert!(answer.to_lowercase().contains("content-type: application/json"), "{answer}");
    }
    assert!(!fleet.log(0).contains("panicked"), "{}", fleet.log(0));
    let alive = raw().get(fleet.url(0, "/")).send().await.unwrap();
    assert_eq!(alive.status(), StatusCode::OK);
    let answer: Value = alive.json().await.unwrap();
    assert!(answer["week"].is_object());
    fleet.stop().await;
}

#[test]
fn what_the_fuzzer_began_with_holds() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, check) in fuzz::ALL {
        let mut read = 0;
        for entry in std::fs::read_dir(corpora.join(name)).unwrap() {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            read += 1;
        }
        assert!(read >= 3, "{name}");
    }
}

#[tokio::test]
async fn revoking_one_account_by_a_body_of_another_kind_does_not_revoke_another() {
    let stage = shipped().await;
    stage.authorise().await;
    let secret = stage.secret("etl-oauth-operator");
    let post = || raw().post(stage.url("/revoke")).bearer_auth(&secret);
    let answer = post().json(&json!({"account": "other"})).send().await.unwrap();
    assert_eq!(answer.status(), 415);
    let answer = post().form(&[("account", "x".repeat(3 << 20))]).send().await.unwrap();
    assert_eq!(answer.status(), 413);
    let answer = post().form(&[("account", "a"), ("account", "b")]).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_ne!(stage.secret("oauth2-access-token"), "empty");
    let answer = post().send().await.unwrap();
    assert_eq!(answer.status(), 200, "none at all means the only one");
    assert_eq!(stage.run().await.0, 409);
    stage.stop().await;
}
