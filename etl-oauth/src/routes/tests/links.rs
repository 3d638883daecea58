//! Connect links, and what strangers try with them.

use super::*;

/// A browser of its own: cookies, and no other credentials.
#[derive(Default)]
struct Visitor {
    cookies: Mutex<std::collections::BTreeMap<String, String>>,
}

impl Visitor {
    async fn ask(&self, scene: &Scene, method: Method, uri: &str, form: &[(&str, &str)]) -> Seen {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let cookies: Vec<String> =
            self.cookies.lock().unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = Request::builder().method(method).uri(uri).header(header::ACCEPT, "text/html");
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let seen = Seen::of(scene.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()).await;
        for cookie in seen.cookies.split("; ").filter(|cookie| !cookie.is_empty()) {
            let (name, value) = cookie.split_once('=').unwrap();
            self.cookies.lock().unwrap().insert(name.to_owned(), value.to_owned());
        }
        seen
    }

    async fn get(&self, scene: &Scene, uri: &str) -> Seen {
        self.ask(scene, Method::GET, uri, &[]).await
    }

    /// Opens the link and presses its button: the state that goes to the provider.
    async fn begin(&self, scene: &Scene, path: &str) -> String {
        let page = self.get(scene, path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        let csrf = page.body.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        let begun = self.ask(scene, Method::POST, path, &[("csrf", csrf)]).await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.body);
        let url: url::Url = begun.location.parse().unwrap();
        url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned()
    }

    /// Comes back from the provider as the person of `code`.
    async fn come_back(&self, scene: &Scene, state: &str, code: &str) -> Seen {
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("code", code)
            .append_pair("state", state)
            .finish();
        self.get(scene, &format!("/oauth2/callback?{query}")).await
    }

    async fn follow(&self, scene: &Scene, path: &str, code: &str) -> Seen {
        let state = self.begin(scene, path).await;
        self.come_back(scene, &state, code).await
    }
}

/// The operator makes a link: its path, and its id.
async fn make(scene: &Scene, wanted: Value) -> (String, String) {
    let (status, made) = post(scene, wanted).await;
    assert_eq!(status, 201, "{made}");
    let url = made["url"].as_str().unwrap();
    (url.strip_prefix("http://127.0.0.1/function/f").unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
}

async fn post(scene: &Scene, wanted: Value) -> (u16, Value) {
    operator(scene, Method::POST, "/links", "application/json", wanted.to_string()).await
}

async fn operator(scene: &Scene, method: Method, uri: &str, kind: &str, body: String) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header(header::AUTHORIZATION, format!("Bearer {SECRET}"))
        .header(header::CONTENT_TYPE, kind)
        .body(Body::from(body))
        .unwrap();
    let answer = scene.router.clone().oneshot(request).await.unwrap();
    let (status, body) = (answer.status().as_u16(), Seen::of(answer).await.body);
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

/// The state of an account.
async fn state(scene: &Scene, account: &str) -> String {
    let (_, status) = operator(scene, Method::GET, "/status", "text/plain", String::new()).await;
    let accounts = status["accounts"].as_array().unwrap();
    let found = accounts.iter().find(|row| row["account"] == account);
    found.map_or("none", |row| row["state"].as_str().unwrap()).to_owned()
}

async fn scene() -> Scene {
    Scene::with(BY_USERINFO, &[("links_return", "https://app.example/done")]).await
}

#[tokio::test]
async fn no_log_has_the_token_of_a_link() {
    let it = scene().await;
    let (path, _) = make(&it, json!({ "account": "shop" })).await;
    for path in [&*path, "/connect/unknown"] {
        for method in [Method::GET, Method::POST] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let answer = it.router.clone().oneshot(request).await.unwrap();
            let shown = answer.extensions().get::<http::uri::PathAndQuery>().map(|path| path.as_str());
            assert_eq!(shown, Some("/connect/-"));
        }
    }
}

#[tokio::test]
async fn a_link_connects_one_account_once_and_its_owner_may_end_it() {
    let it = scene().await;
    let wanted = json!({ "account": "shop", "expect": "3", "return_url": "https://app.example/done/ada" });
    let (path, id) = make(&it, wanted).await;
    let (_, listed) = operator(&it, Method::GET, "/links", "text/plain", String::new()).await;
    assert_eq!((&listed["links"][0]["id"], &listed["links"][0]["account"]), (&json!(id), &json!("shop")));
    assert!(!listed.to_string().contains(path.rsplit('/').next().unwrap()), "no list has a link's token");
    let owner = Visitor::default();
    let done = owner.follow(&it, &path, "ada:read").await;
    assert_eq!((done.status, done.location.as_str()), (StatusCode::SEE_OTHER, "http://127.0.0.1/function/f/mine"));
    assert_eq!(state(&it, "shop").await, "enabled");
    let mine = owner.get(&it, "/mine").await;
    assert!(mine.body.contains("<strong>ada</strong>") && mine.body.contains("https://app.example/done/ada"));
    assert!(!mine.body.contains("shop"), "no name of an account");
    let (_, listed) = operator(&it, Method::GET, "/links", "text/plain", String::new()).await;
    assert_eq!(listed["links"], json!([]));
    // Another browser sees nothing of it.
    assert_eq!(Visitor::default().get(&it, "/mine").await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        Visitor::default().ask(&it, Method::POST, "/mine/disconnect", &[]).await.status,
        StatusCode::BAD_REQUEST
    );
    let csrf = mine.body.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let ended = owner.ask(&it, Method::POST, "/mine/disconnect", &[("csrf", csrf)]).await;
    assert_eq!(ended.status, StatusCode::SEE_OTHER, "{}", ended.body);
    assert_eq!(state(&it, "shop").await, "none", "a revoked account is not listed");
    assert!(owner.get(&it, "/mine").await.body.contains("Disconnected"));
    // This browser must not end a later grant of another person.
    let (path, _) = make(&it, json!({ "account": "shop" })).await;
    assert_eq!(Visitor::default().follow(&it, &path, "grace:read").await.status, StatusCode::SEE_OTHER);
    assert_eq!(owner.get(&it, "/mine").await.status, StatusCode::NOT_FOUND);
    assert_eq!(owner.ask(&it, Method::POST, "/mine/disconnect", &[("csrf", csrf)]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(state(&it, "shop").await, "enabled");
}

#[tokio::test]
async fn attack_a_link_that_is_forwarded_to_another_person_holds_the_grant_for_the_operator() {
    let it = scene().await;
    let (path, _) = make(&it, json!({ "account": "shop", "expect": "3" })).await;
    let stranger = Visitor::default().follow(&it, &path, "stranger:read").await;
    assert_eq!(stranger.status, StatusCode::FORBIDDEN);
    assert!(stranger.body.contains("This link is for another person"), "{}", stranger.body);
    assert_ne!(state(&it, "shop").await, "enabled");
    let page = it.send(Method::GET, "/links", "", &[]).await;
    assert!(page.body.contains("Another person came") && page.body.contains("stranger"), "{}", page.body);
    assert_eq!(Visitor::default().get(&it, &path).await.status, StatusCode::NOT_FOUND, "the link is used up");
    let form = "account=shop&action=discard".to_owned();
    let kind = "application/x-www-form-urlencoded";
    assert_eq!(operator(&it, Method::POST, "/held", kind, form.clone()).await.0, 200);
    assert_eq!(operator(&it, Method::POST, "/held", kind, form).await.0, 404, "it is decided once");
    assert_ne!(state(&it, "shop").await, "enabled");
    // And the other way: the operator accepts who came.
    let (path, _) = make(&it, json!({ "account": "shop", "expect": "3" })).await;
    assert_eq!(Visitor::default().follow(&it, &path, "stranger:read").await.status, StatusCode::FORBIDDEN);
    let accept = operator(&it, Method::POST, "/held", kind, "account=shop&action=accept".into()).await;
    assert_eq!((accept.0, accept.1["outcome"].as_str()), (200, Some("accepted")));
    assert_eq!(state(&it, "shop").await, "enabled");
    // Without an expected person another one does not replace who is there.
    let (path, _) = make(&it, json!({ "account": "shop" })).await;
    assert_eq!(Visitor::default().follow(&it, &path, "ada:read").await.status, StatusCode::FORBIDDEN);
    let (path, _) = make(&it, json!({ "account": "shop" })).await;
    assert_eq!(
        Visitor::default().follow(&it, &path, "stranger:read").await.status,
        StatusCode::SEE_OTHER,
        "the same one does"
    );
}

#[tokio::test]
async fn attack_a_link_that_was_stolen_and_used_first_tells_its_rightful_owner_and_the_operator_who_came() {
    let it = scene().await;
    let (path, _) = make(&it, json!({ "account": "shop" })).await;
    assert_eq!(Visitor::default().follow(&it, &path, "thief:read").await.status, StatusCode::SEE_OTHER);
    let owner = Visitor::default().get(&it, &path).await;
    assert_eq!(owner.status, StatusCode::NOT_FOUND);
    assert!(owner.body.contains("It was used on") && owner.body.contains("new one"), "{}", owner.body);
    let (_, status) = operator(&it, Method::GET, "/status", "text/plain", String::new()).await;
    let shop = status["accounts"].as_array().unwrap().iter().find(|row| row["account"] == "shop").unwrap();
    assert_eq!(shop["who"], "thief");
}

#[tokio::test]
async fn attack_a_link_or_a_callback_that_is_replayed_and_a_link_in_two_browsers_at_once_connect_once() {
    let it = scene().await;
    let (path, _) = make(&it, json!({ "account": "shop" })).await;
    let (one, two) = (Visitor::default(), Visitor::default());
    let (first, second) = (one.begin(&it, &path).await, two.begin(&it, &path).await);
    // Both get their tokens at the same moment.
    let both = tokio::join!(one.come_back(&it, &first, "rival-a:read"), two.come_back(&it, &second, "rival-b:read"));
    let mut statuses = [both.0.status.as_u16(), both.1.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 404], "{} {}", both.0.body, both.1.body);
    let again = one.come_back(&it, &first, "rival-a:read").await;
    assert!(again.status.is_client_error(), "{}", again.status);
    assert_eq!(Visitor::default().get(&it, &path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn attack_a_preview_robot_an_embedding_page_and_a_forged_press_use_nothing_up() {
    let it = scene().await;
    let (path, _) = make(&it, json!({ "account": "shop" })).await;
    for _ in 0..3 {
        assert_eq!(Visitor::default().get(&it, &path).await.status, StatusCode::OK);
    }
    // A robot that posts has no form of ours, and neither has another site.
    let robot = Visitor::default();
    robot.get(&it, &path).await;
    for csrf in ["", "forged"] {
        assert_eq!(robot.ask(&it, Method::POST, &path, &[("csrf", csrf)]).await.status, StatusCode::BAD_REQUEST);
    }
    let foreign = |name: &'static str, value: &'static str| {
        let request = Request::builder().method(Method::POST).uri(&path).header(header::ACCEPT, "text/html");
        request.header(name, value).body(Body::empty()).unwrap()
    };
    for (name, value, status) in
        [("origin", "https://evil.example", 403), ("x-callback-url", "https://evil.example", 400)]
    {
        assert_eq!(it.router.clone().oneshot(foreign(name, value)).await.unwrap().status(), status, "{name}");
    }
    let framed =
        it.router.clone().oneshot(Request::get(&path).header("accept", "text/html").body(Body::empty()).unwrap());
    let framed = framed.await.unwrap();
    assert!(framed.headers()["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
    assert_eq!(framed.headers()["referrer-policy"], "no-referrer");
    assert_eq!(Visitor::default().follow(&it, &path, "ada:read").await.status, StatusCode::SEE_OTHER, "it still works");
}

#[tokio::test]
async fn attack_a_callback_of_one_link_with_the_state_of_another_and_a_link_for_one_account_reach_no_other() {
    let it = scene().await;
    let ((one, _), (two, _)) =
        (make(&it, json!({ "account": "one" })).await, make(&it, json!({ "account": "two" })).await);
    let (ada, eve) = (Visitor::default(), Visitor::default());
    let (of_ada, of_eve) = (ada.begin(&it, &one).await, eve.begin(&it, &two).await);
    // The state of another browser is refused, whichever link it is of.
    assert_eq!(eve.come_back(&it, &of_ada, "eve:read").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(ada.come_back(&it, &of_eve, "ada:read").await.status, StatusCode::BAD_REQUEST);
    // A name in the query changes nothing.
    let state = ada.begin(&it, &format!("{one}?account=two")).await;
    let done = ada.come_back(&it, &state, "ada:read").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    assert_eq!((state_of(&it, "one").await.as_str(), state_of(&it, "two").await.as_str()), ("enabled", "none"));
    // The owner's cookie opens nothing of the operator's.
    for path in ["/status", "/links", "/enable?account=one"] {
        let seen = ada.get(&it, path).await;
        assert!(seen.location.contains("/login"), "{path}: {} {}", seen.status, seen.location);
    }
}

async fn state_of(scene: &Scene, account: &str) -> String {
    state(scene, account).await
}

#[tokio::test]
async fn attack_guessed_tokens_are_slowed_down_and_the_right_one_passes() {
    let it = scene().await;
    let (path, _) = make(&it, json!({ "account": "shop" })).await;
    let mut statuses = Vec::new();
    for guess in 0..40 {
        statuses.push(
            Visitor::default().get(&it, &format!("/connect/AAAAAAAAAAAAAAAAAAA{guess:03}")).await.status.as_u16(),
        );
    }
    assert_eq!(statuses.first(), Some(&404));
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(Visitor::default().get(&it, &path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn attack_a_link_is_of_no_use_after_its_end_its_withdrawal_or_the_accounts_revocation() {
    let it = scene().await;
    for end in ["delete", "revoke"] {
        let (path, id) = make(&it, json!({ "account": "shop" })).await;
        let visitor = Visitor::default();
        let state = visitor.begin(&it, &path).await;
        match end {
            "delete" => {
                assert_eq!(
                    operator(&it, Method::DELETE, &format!("/links/{id}"), "text/plain", String::new()).await.0,
                    204
                );
                assert_eq!(
                    operator(&it, Method::DELETE, &format!("/links/{id}"), "text/plain", String::new()).await.0,
                    404
                );
            }
            _ => drop(it.send(Method::POST, "/revoke", "", &[("account", "shop")]).await),
        }
        assert_eq!(Visitor::default().get(&it, &path).await.status, StatusCode::NOT_FOUND, "{end}");
        let late = visitor.come_back(&it, &state, "ada:read").await;
        assert_eq!(late.status, StatusCode::NOT_FOUND, "{end}: a flow that was begun by it");
        assert_ne!(self::state(&it, "shop").await, "enabled", "{end}");
    }
}

#[tokio::test]
async fn attack_wishes_that_lead_elsewhere_or_promise_what_cannot_be_kept_are_refused() {
    let it = scene().await;
    for (wanted, why) in [
        (json!({}), "names no account"),
        (json!({ "account": "No" }), "account's name"),
        (json!({ "account": "a", "expires_in": "169h" }), "at most 168h"),
        (json!({ "account": "a", "expires_in": "soon" }), "no duration"),
        (json!({ "account": "a", "return_url": "https://evil.example/" }), "below no entry"),
        (json!({ "account": "a", "return_url": "https://app.example/done-evil" }), "below no entry"),
        (json!({ "account": "a", "return_url": "javascript:alert(1)" }), "below no entry"),
        (json!({ "account": "a", "notify": "https://10.0.0.1/" }), "private address"),
        (json!({ "account": "a", "notify": "ftp://x.example/" }), "notify"),
        (json!({ "account": "a", "conection": "x" }), "unknown field"),
        (json!({ "account": "a", "connection": "x" }), "no connection of that name"),
    ] {
        let (status, body) = post(&it, wanted.clone()).await;
        assert_eq!(status, 400, "{wanted} {body}");
        assert!(body["message"].as_str().unwrap().contains(why), "{why}: {body}");
    }
    // A provider that says nothing of the person cannot be held to one.
    let silent = Scene::new("authorize_url = 'URL/authorize'\ntoken_url = 'URL/token'\napi_url = 'URL'").await;
    let (status, body) = post(&silent, json!({ "account": "a", "expect": "ada" })).await;
    assert_eq!((status, body["error"].as_str()), (400, Some("bad_link")));
    // Only the operator makes, lists and ends them.
    for (method, path) in
        [(Method::POST, "/links"), (Method::GET, "/links"), (Method::DELETE, "/links/x"), (Method::POST, "/held")]
    {
        let request = Request::builder().method(method).uri(path).body(Body::from("{}")).unwrap();
        assert_eq!(it.router.clone().oneshot(request).await.unwrap().status(), StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn a_sibling_that_links_allow_names_makes_links_for_the_accounts_it_may_use() {
    let variables = [("invoke_auth", "secret"), ("links_allow", "shop")];
    let keys = "shop-key name=shop allow=default/ada\nother-key name=other";
    let it = Scene::prepared(Job::Gumroad, BY_USERINFO, &variables, &[("etl-oauth-invoke", keys)]).await;
    let ask = async |key: &str, account: &str| {
        let request = Request::post("/links").header("authorization", format!("Bearer {key}"));
        let body = json!({ "account": account }).to_string();
        let answer = it.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (status, seen) = (answer.status().as_u16(), Seen::of(answer).await);
        (status, serde_json::from_str::<Value>(&seen.body).unwrap())
    };
    let (status, made) = ask("shop-key", "ada").await;
    assert_eq!((status, made["by"].as_str()), (201, Some("caller:shop")), "{made}");
    assert_eq!(
        (ask("shop-key", "grace").await.0, ask("other-key", "ada").await.0, ask("no-key", "ada").await.0),
        (403, 403, 401)
    );
    let path = made["url"].as_str().unwrap().strip_prefix("http://127.0.0.1/function/f").unwrap().to_owned();
    let page = Visitor::default().get(&it, &path).await;
    assert!(page.body.contains("<strong>shop</strong>") && page.body.contains("<dd>ada</dd>"), "{}", page.body);
    assert_eq!(ask(SECRET, "grace").await.0, 201, "the operator makes any");
}

#[tokio::test]
async fn every_token_of_a_consent_is_kept_whichever_way_it_came() {
    let it = Scene::with(&format!("{BY_USERINFO}[also.all]\naccess_token = ['team.access_token']\n"), &[]).await;
    it.authorise("team:read").await;
    assert_eq!(state(&it, "default-all").await, "enabled", "by the operator");
    let (path, _) = make(&it, json!({ "account": "shop", "expect": "5" })).await;
    let done = Visitor::default().follow(&it, &path, "teams:read").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    assert_eq!(state(&it, "shop-all").await, "enabled", "by a link");
    let (path, _) = make(&it, json!({ "account": "club", "expect": "5" })).await;
    assert_eq!(Visitor::default().follow(&it, &path, "team:read").await.status, StatusCode::FORBIDDEN);
    let kind = "application/x-www-form-urlencoded";
    assert_eq!(operator(&it, Method::POST, "/held", kind, "account=club&action=accept".into()).await.0, 200);
    assert_eq!(state(&it, "club-all").await, "enabled", "by the operator's decision");
}

#[tokio::test]
async fn when_the_provider_refuses_the_owner_gets_one_fresh_link_which_is_signed_and_works() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, mut news) = tokio::sync::mpsc::unbounded_channel();
    let hook =
        |headers: http::HeaderMap, body: String| async move { sender.send((headers, body)).map_err(|_| ()).unwrap() };
    let receiver = Router::new().route("/hook", routing::post(hook));
    tokio::spawn(async { axum::serve(listener, receiver).await });

    let it = Scene::with(&format!("{BY_USERINFO}refresh_url = 'URL/refuse'\n"), &[]).await;
    std::fs::write(it.folder.path().join("etl-oauth-notify-key"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let (path, _) = make(&it, json!({ "account": "shop", "expect": "3", "notify": to })).await;
    assert_eq!(Visitor::default().follow(&it, &path, "ada:read").await.status, StatusCode::SEE_OTHER);
    for _ in 0..2 {
        let kind = "application/x-www-form-urlencoded";
        operator(&it, Method::POST, "/refresh", kind, "account=shop".into()).await;
    }
    assert_eq!(state(&it, "shop").await, "needs_authorisation");
    let arrived = tokio::time::timeout(std::time::Duration::from_secs(30), news.recv()).await;
    let (headers, body) = arrived.expect("the owner is notified").unwrap();
    assert!(headers["webhook-signature"].to_str().unwrap().starts_with("v1,"), "{headers:?}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["account"], &body["state"]), (&json!("shop"), &json!("needs_authorisation")), "{body}");
    let fresh = body["link"].as_str().unwrap().strip_prefix("http://127.0.0.1/function/f").unwrap();
    // The new link has the terms of the first one.
    assert_eq!(Visitor::default().follow(&it, fresh, "ada:read").await.status, StatusCode::SEE_OTHER);
    assert_eq!(state(&it, "shop").await, "enabled");
    assert!(news.try_recv().is_err(), "once");
}
