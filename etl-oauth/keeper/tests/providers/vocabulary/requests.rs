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
