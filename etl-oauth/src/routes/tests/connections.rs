//! Several connections of one function.

use super::*;

const FILE: &str = "
[connections.google]
provider_file = 'FOLDER/google.toml'
[connections.slack]
provider_file = 'FOLDER/slack.toml'
";

/// Two connections at one provider's server, with clients of their own.
async fn two(more: &[(&str, &str)]) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let url = provider().await;
    let place = folder.path().display().to_string();
    let definition = |name: &str| BY_USERINFO.replace("URL", &url).replace("/authorize", &format!("/authorize/{name}"));
    for (name, value) in [
        ("connections.toml", &*FILE.replace("FOLDER", &place)),
        ("google.toml", &*definition("google")),
        ("slack.toml", &*definition("slack")),
        ("google-oauth2-client-id", "google-client"),
        ("google-oauth2-client-secret", "value"),
        ("slack-oauth2-client-id", "slack-client"),
        ("slack-oauth2-client-secret", "value"),
        ("etl-oauth-operator", SECRET),
        ("etl-oauth-invoke", "the word of the callers"),
        ("etl-oauth-seal-keys", "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
    ] {
        std::fs::write(folder.path().join(name), value).unwrap();
    }
    let path = |name: &str| Some(folder.path().join(name).display().to_string());
    let config = Config::read(|name| match name {
        "connections_file" => Some("connections.toml".into()),
        "job" => Some("none".into()),
        "public_url" => Some("http://127.0.0.1/function/f".into()),
        "store" => Some("file".into()),
        "store_path" => path("store"),
        "allow_ephemeral_store" => Some("true".into()),
        "secret_mount_path" => Some(place.clone()),
        name => more.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
    });
    let router = Function::new(config.unwrap()).await.unwrap().router();
    Scene { router, provider: url, folder }
}

impl Scene {
    /// Begins an authorisation: the browser's cookies, and the address that the provider sends it back to.
    async fn begin(&self, connection: &str, account: &str, code: &str) -> (String, String) {
        let begun = self.send(Method::POST, "/enable", "", &[("connection", connection), ("account", account)]).await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.body);
        let url: url::Url = begun.location.parse().unwrap();
        let query = |wanted: &str| url.query_pairs().find(|(name, _)| name == wanted).unwrap().1.into_owned();
        assert!(url.path().ends_with(connection), "{url}");
        let back: url::Url = query("redirect_uri").parse().unwrap();
        let answer: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("code", code)
            .append_pair("state", &query("state"))
            .finish();
        (begun.cookies, format!("{}?{answer}", back.path().strip_prefix("/function/f").unwrap()))
    }

    async fn connect(&self, connection: &str, account: &str, code: &str) {
        let (cookies, back) = self.begin(connection, account, code).await;
        let done = self.send(Method::GET, &back, &cookies, &[]).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    }

    /// A request as a machine makes it, with the bearer: status and JSON.
    async fn json(&self, method: &str, uri: &str, bearer: &str, headers: &[(&'static str, &str)]) -> (u16, Value) {
        let mut request =
            Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {bearer}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (status, body) = (answer.status().as_u16(), Seen::of(answer).await.body);
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn each_connection_has_its_accounts_its_redirect_uri_and_its_rows() {
    let it = two(&[]).await;
    it.connect("google", "default", "ada:read").await;
    it.connect("slack", "default", "grace:read").await;
    it.connect("slack", "team", "linus:read").await;
    let rows = async |query: &str| {
        let (status, json) = it.json("GET", &format!("/status{query}"), SECRET, &[]).await;
        assert_eq!(status, 200, "{json}");
        let row = |account: &Value| {
            [&account["connection"], &account["account"], &account["who"]]
                .map(|it| it.as_str().unwrap().to_owned())
                .join(" ")
        };
        let rows: Vec<String> = json["accounts"].as_array().unwrap().iter().map(row).collect();
        (json["provider"].clone(), rows)
    };
    let slack = ["slack default grace", "slack team linus"];
    assert_eq!(
        rows("").await,
        (Value::Null, [&["google default ada"][..], &slack[..]].concat().iter().map(|row| (*row).to_owned()).collect())
    );
    assert_eq!(rows("?connection=slack").await, ("slack".into(), slack.map(str::to_owned).to_vec()));
    // One is revoked and no longer listed, and the others stay.
    let revoked = it.send(Method::POST, "/revoke", "", &[("connection", "slack"), ("account", "default")]).await;
    assert!(revoked.status.is_redirection() || revoked.status == StatusCode::BAD_GATEWAY, "{}", revoked.body);
    let (_, json) = it.json("GET", "/status", SECRET, &[]).await;
    let states: Vec<_> =
        json["accounts"].as_array().unwrap().iter().map(|account| account["state"].as_str().unwrap()).collect();
    assert_eq!((states, &json["counts"]["enabled"]), (vec!["enabled", "enabled"], &json!(2)), "{json}");
    let again = it.json("POST", "/?connection=google&account=default", SECRET, &[]).await;
    assert_eq!(again.0, 200, "{}", again.1);
}

#[tokio::test]
async fn an_answer_that_comes_to_another_connections_address_is_refused_and_uses_nothing_up() {
    let it = two(&[]).await;
    let (cookies, back) = it.begin("google", "default", "ada:read").await;
    let (_, query) = back.split_once('?').unwrap();
    let mixed = it.send(Method::GET, &format!("/oauth2/callback/slack?{query}"), &cookies, &[]).await;
    assert_eq!(mixed.status, StatusCode::BAD_REQUEST);
    assert!(mixed.body.contains("the address of another connection"), "{}", mixed.body);
    for nowhere in ["/oauth2/callback", "/oauth2/callback/default", "/oauth2/callback/slak"] {
        let answer = it.send(Method::GET, &format!("{nowhere}?{query}"), &cookies, &[]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{nowhere}");
    }
    let done = it.send(Method::GET, &back, &cookies, &[]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
}

#[tokio::test]
async fn a_request_names_its_connection_once_and_where_there_are_several_it_has_to() {
    let it = two(&[("invoke_auth", "secret"), ("proxy_allow", "google: token, slack: token, google: GET /me")]).await;
    it.connect("google", "default", "ada:read").await;
    let caller = "the word of the callers";
    let (status, body) = it.json("GET", "/token", caller, &[]).await;
    assert_eq!((status, body["error"].as_str()), (400, Some("bad_connection")), "{body}");
    assert!(body["next"].as_str().unwrap().contains("google, slack"), "{body}");
    let (status, body) = it.json("GET", "/token?connection=google", caller, &[]).await;
    assert_eq!((status, body["access_token"].as_str()), (200, Some("ada")), "{body}");
    let same = [("x-etl-oauth-connection", "google"), ("x-etl-oauth-account", "default")];
    assert_eq!(it.json("GET", "/token?connection=google", caller, &same).await.0, 200);
    for (query, headers) in [
        ("?connection=google", [("x-etl-oauth-connection", "slack"), ("accept", "*/*")]),
        ("?connection=google", [("x-etl-oauth-account", "other"), ("accept", "*/*")]),
        ("?connection=google&connection=slack", same),
    ] {
        let (status, body) = it.json("GET", &format!("/token{query}"), caller, &headers).await;
        assert_eq!((status, body["error"].as_str()), (400, Some("bad_request")), "{query} {headers:?}");
    }
    // The proxy has headers alone: the query is the API's.
    let by = |name| [("x-etl-oauth-connection", name)];
    assert_eq!(it.json("GET", "/proxy/me", caller, &by("google")).await.1["user"]["login"], "ada");
    assert_eq!(it.json("GET", "/proxy/me?connection=slack", caller, &by("google")).await.0, 200);
    for (headers, status) in [
        (&[][..], 400),
        (&by("slack"), 403),
        (&by("slak"), 400),
        (&[("x-etl-oauth-connection", "google"), ("x-etl-oauth-account", "nobody")], 409),
    ] {
        assert_eq!(it.json("GET", "/proxy/me", caller, headers).await.0, status, "{headers:?}");
    }
    let two = [("x-etl-oauth-connection", "google"), ("x-etl-oauth-connection", "google")];
    assert_eq!(it.json("GET", "/proxy/me", caller, &two).await.0, 400, "two names are none");
}

#[tokio::test]
async fn a_callers_rights_are_per_account_on_every_route_that_callers_use() {
    let it = two(&[
        ("invoke_auth", "secret"),
        ("proxy_allow", "google: token, slack: token, google: GET /me, slack: GET /me"),
    ])
    .await;
    let keys = "everything name=admin\nsome name=reports allow=google/*,slack/team\nnothing name=none allow=";
    std::fs::write(it.folder.path().join("etl-oauth-invoke"), keys).unwrap();
    for (connection, account) in [("google", "default"), ("slack", "default"), ("slack", "team")] {
        it.connect(connection, account, "ada:read").await;
    }
    for (key, statuses) in [("everything", [200, 200, 200]), ("some", [200, 403, 200]), ("nothing", [403, 403, 403])] {
        for ((connection, account), status) in
            [("google", "default"), ("slack", "default"), ("slack", "team")].iter().zip(statuses)
        {
            let query = format!("connection={connection}&account={account}");
            let headers = [("x-etl-oauth-connection", *connection), ("x-etl-oauth-account", *account)];
            let token = it.json("GET", &format!("/token?{query}"), key, &[]).await;
            let proxy = it.json("GET", "/proxy/me", key, &headers).await;
            let run = it.json("POST", &format!("/?{query}"), key, &[]).await;
            assert_eq!([token.0, proxy.0, run.0], [status; 3], "{key} {query}: {} {} {}", token.1, proxy.1, run.1);
        }
    }
    // A run of all is one of those that the caller may use.
    let (status, all) = it.json("POST", "/", "some", &[]).await;
    let row = |run: &Value| [&run["connection"], &run["account"]].map(|it| it.as_str().unwrap().to_owned()).join("/");
    let rows: Vec<String> = all["accounts"].as_array().unwrap().iter().map(row).collect();
    assert_eq!((status, rows), (200, ["google/default", "slack/team"].map(str::to_owned).to_vec()), "{all}");
    // Anonymous calls run no single account.
    let open = two(&[]).await;
    open.connect("google", "default", "ada:read").await;
    let request = Request::post("/?connection=google").body(Body::empty()).unwrap();
    assert_eq!(open.router.clone().oneshot(request).await.unwrap().status(), StatusCode::UNAUTHORIZED);
}
