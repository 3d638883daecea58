//! What requests hold.

use super::*;

#[test]
fn more_parameters_of_the_authorization_request() {
    let url = authorize(&provider("More parameters of the authorization request"));
    for wanted in ["access_type=offline", "prompt=consent", "response_type=code+id_token", "response_mode=query"] {
        assert!(url.contains(wanted), "{url}");
    }
    assert!(!url.contains("response_type=code&"), "{url}");
}

#[test]
fn more_parameters_of_token_requests_and_another_grant_type() {
    let provider = with("More parameters of token requests, and another grant type", &[("account", "a 1")]);
    let request = grant::client_credentials(&provider, &client());
    assert_eq!(request.body(), "account_id=a+1&audience=https%3A%2F%2Fapi.a.example&grant_type=account_credentials");
}

#[test]
fn a_password_grant() {
    let secrets = [("user", "u"), ("word", "w&w")].map(|(name, value)| (name.to_owned(), Secret::new(value)));
    let client = Client { secrets: secrets.into(), ..client() };
    let request = grant::client_credentials(&provider("A password grant"), &client);
    assert_eq!(
        request.body(),
        "client_id=id&client_secret=s&credtype=authtoken&grant_type=password&password=w%26w&username=u"
    );
}

#[test]
fn scopes_and_pkce() {
    let url = authorize(&provider("Scopes and PKCE"));
    assert!(url.contains("&scope=read+write&") && !url.contains("challenge"), "{url}");
}

#[test]
fn client_authentication() {
    let it = provider("Client authentication");
    // Basic of `s:`, the secret as user without a password.
    assert_eq!(renewal(&it).authorization().unwrap(), "Basic czo=");
    let revocation = grant::revocation(&it, &client(), &Secret::new("t"), TokenKind::RefreshToken).unwrap();
    assert!(revocation.authorization().is_none() && revocation.body().contains("client_secret=s"));
    let mut schema = Definition::schema();
    let known = schema["$defs"]["ClientAuth"]["oneOf"].take();
    let format = fs::read_to_string(folder("providers/FORMAT.md")).unwrap();
    for auth in known.as_array().unwrap() {
        assert!(format.contains(&format!("`{}`", auth["const"].as_str().unwrap())), "{auth}");
    }
}

#[test]
fn bodies() {
    let it = provider("Bodies");
    let json: Value = serde_json::from_str(code(&it).body()).unwrap();
    assert_eq!((&json["code"], &json["client_secret"]), (&"c".into(), &"s".into()));
    let renewal = renewal(&it);
    assert_eq!((renewal.method().as_str(), renewal.body()), ("GET", ""));
    assert_eq!(renewal.url().query(), Some("grant_type=refresh_token&refresh_token=rt&client_id=id&client_secret=s"));
}

#[test]
fn renamed_parameters() {
    let it = provider("Renamed parameters");
    assert_eq!(
        authorize(&it),
        "https://a.example/authorize?response_type=code&app_id=id&redirectUri=https%3A%2F%2Ff.example%2Fcb&st=st"
    );
    assert_eq!(code(&it).body(), "grant_type=authorization_code&redirect_uri=r&appKey=id&auth_code=c&secret=s");
    assert_eq!((&*it.callback.code, &*it.callback.state), ("auth_code", "st"));
}

#[test]
fn the_access_token_is_exchanged() {
    let it = provider("The access token is exchanged");
    let answer = grant::judge_token(&it, &raw(r#"{"access_token":"a1"}"#)).unwrap();
    let request = grant::refresh_token(&it, &client(), &answer.refresh_token.unwrap());
    assert_eq!(request.url().query(), Some("client_id=id&client_secret=s&grant_type=xx_exchange&xx_token=a1"));
}

#[test]
fn a_second_exchange() {
    let it = provider("A second exchange");
    let answer = grant::judge_token(&it, &raw(r#"{"access_token":"a","refresh_token":"r"}"#)).unwrap();
    let request = grant::second(&it, &client(), &answer).unwrap();
    assert_eq!(request.body(), r#"{"resource":"https://crm.a.example","token":"a"}"#);
    assert!(request.authorization().is_none() && it.second_on_renewal);
}

#[test]
fn revocation() {
    let it = provider("Revocation");
    let of = |kind| grant::revocation(&it, &client(), &Secret::new("t"), kind);
    let request = of(TokenKind::AccessToken).unwrap();
    assert_eq!((request.method().as_str(), request.url().path()), ("DELETE", "/apps/id/token"));
    assert_eq!((request.body(), &request.headers()["authorization"]), ("reason=over", &"Bearer t".parse().unwrap()));
    assert_eq!(request.headers()["x-version"], "2");
    assert!(of(TokenKind::RefreshToken).is_none());
}

#[test]
fn an_authorization_header_made_of_parts() {
    let heading = "An Authorization header made of parts";
    let it = with(heading, &[("installation", "4711")]);
    let app = Client { id: "id".into(), assertion: Some(Secret::new("e.y.J")), ..Client::default() };
    let request = grant::client_credentials(&it, &app);
    assert_eq!(request.url().path(), "/app/installations/4711/access_tokens");
    assert_eq!((request.authorization().unwrap().to_str().unwrap(), request.body()), ("Bearer e.y.J", ""));
    assert!(request.authorization().unwrap().is_sensitive());
    assert_eq!(request.headers()["accept"], "application/vnd.a+json");
    let answer = grant::judge_token(&it, &raw(r#"{"token":"ghs","expires_at":"2030-01-01T00:00:00Z"}"#)).unwrap();
    assert_eq!((answer.access_token.expose(), answer.expires_at.is_some()), ("ghs", true));

    let login = Provider::new("example", example(heading, 1), Overrides::default()).unwrap();
    let secrets = [("user", "u"), ("word", "w:x")].map(|(name, value)| (name.to_owned(), Secret::new(value)));
    let request = grant::client_credentials(&login, &Client { secrets: secrets.into(), ..Client::default() });
    // Basic of `u:w:x`.
    assert_eq!((request.authorization().unwrap().to_str().unwrap(), request.body()), ("Basic dTp3Ong=", ""));
    assert!(grant::Credentials::needed_by(&login, Some(login.client_auth)).is_empty(), "no client is named");
}

#[test]
fn nested_json() {
    let json: Value = serde_json::from_str(code(&provider("Nested JSON")).body()).unwrap();
    let wanted = serde_json::json!({
        "grant_type": "authorization_code", "code": "c", "redirect_uri": "r", "remember": true, "version": 3,
        "app": {"id": "id", "secret": "s"}, "wants": ["profile"],
    });
    assert_eq!(json, wanted);
    let form = "token_url = 'https://a.example/t'\n[token]\nparams.wants = ['a', 'b']\nparams.on = true";
    let form = Provider::new("acme", Definition::read("acme.toml", form).unwrap(), Overrides::default()).unwrap();
    assert!(code(&form).body().ends_with("&on=true&wants=a&wants=b"), "{}", code(&form).body());
}

#[test]
fn the_state_goes_back_with_the_code_where_the_provider_wants_it() {
    let with_state = |provider: &Provider| {
        let code = grant::Code { code: "c", state: "st" };
        grant::authorization_code(provider, &client(), code, "r", None).body().to_owned()
    };
    let text = "token_url = 'https://a.example/t'\ntoken.params = { state = '{state}' }";
    let it = Provider::new("acme", Definition::read("acme.toml", text).unwrap(), Overrides::default()).unwrap();
    assert_eq!(with_state(&it), "grant_type=authorization_code&code=c&redirect_uri=r&state=st");
    assert_eq!(with_state(&provider("Bodies")).matches("st\"").count(), 0, "no other provider gets it");
}

#[test]
fn a_session() {
    let it = with("A session", &[("site", "acme")]);
    let secrets = [("user", "u"), ("word", "w")].map(|(name, value)| (name.to_owned(), Secret::new(value)));
    let login = Client { secrets: secrets.into(), ..Client::default() };
    let request = grant::client_credentials(&it, &login);
    assert_eq!(request.url().as_str(), "https://acme.a.example/api/login");
    assert_eq!(request.body(), r#"{"auth":{"password":"w","user":"u"},"remember":false}"#);
    let answer = grant::judge_token(&it, &raw(r#"{"data":{"ticket":"t1"}}"#)).unwrap();
    let session = grant::second(&it, &login, &answer).unwrap();
    assert_eq!((session.url().path(), session.body()), ("/api/session", r#"{"ticket":"t1"}"#));
    let cookie = HeaderMap::from_iter([(http::header::SET_COOKIE, "SESSION=s 1; Path=/; HttpOnly".parse().unwrap())]);
    let answer = grant::judge_token(&it, &HttpResponse { headers: cookie, ..raw("{}") }).unwrap();
    assert_eq!((answer.access_token.expose(), it.lifetime.unwrap().as_secs()), ("s 1", 1200));
    let facts = token_keeper::api::Facts::of(&it, "").unwrap();
    assert_eq!((&*facts.prefix, facts.header.as_str()), ("SESSION=", "cookie"));
    assert!(grant::Credentials::needed_by(&it, Some(it.client_auth)).is_empty());
}

#[test]
fn the_clients_certificate() {
    let it = provider("The client's certificate");
    let needed = grant::Credentials::needed_by(&it, it.said_client_auth());
    let secrets = ["oauth2-client-id", "oauth2-client-secret", "oauth2-client-certificate", "oauth2-private-key"];
    assert_eq!(needed, secrets);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::new(vec!["c.example".into()]).unwrap().self_signed(&key).unwrap().pem();
    let certificate = grant::Certificate::read(&Secret::new(pem), &Secret::new(key.serialize_pem())).unwrap();
    let client = Client { certificate: Some(certificate), ..client() };
    let shown = |provider: &Provider| grant::client_credentials(provider, &client).certificate().is_some();
    assert!(shown(&it) && !shown(&provider("Bodies")));
    assert!(grant::client_credentials(&it, &client).body().contains("client_secret=s"), "beside the other proof");
}
