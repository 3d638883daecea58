use serde_json::json;

use super::*;
use http::Method;
use url::form_urlencoded;

use crate::{
    grant::hmac::{signed_text, tag},
    provider::{ClientAuth, Definition, Format, Overrides, Params, Sign},
};

fn provider(definition: Definition) -> Provider {
    let token_url = Some("https://p.example/token".into());
    Provider::new("custom", Definition { token_url, ..definition }, Overrides::default()).unwrap()
}

fn client() -> Client {
    Client { id: "id".into(), secret: Some(Secret::new("s&s")), ..Client::default() }
}

fn params(params: &[(&str, &str)]) -> Params {
    params.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

fn code(definition: Definition) -> TokenRequest {
    authorization_code(&provider(definition), &client(), "c", "r", None)
}

fn renewal(definition: Definition) -> TokenRequest {
    refresh_token(&provider(definition), &client(), &Secret::new("r&r"))
}

fn revoked(definition: Definition) -> TokenRequest {
    let definition = Definition { revoke_url: Some("https://p.example/revoke".into()), ..definition };
    revocation(&provider(definition), &client(), &Secret::new("t"), TokenKind::AccessToken).unwrap()
}

#[test]
fn the_code_exchange_has_the_fields_of_rfc_6749_and_7636() {
    let provider = provider(Definition { client_auth: ClientAuth::Post, ..Definition::default() });
    let request =
        authorization_code(&provider, &client(), "c:1", "https://f.example/cb", Some(&Secret::new("verifier")));
    assert_eq!(
        request.body(),
        "grant_type=authorization_code&code=c%3A1&redirect_uri=https%3A%2F%2Ff.example%2Fcb&code_verifier=verifier\
         &client_id=id&client_secret=s%26s"
    );
    assert_eq!((request.method(), request.authorization()), (&Method::POST, None));
    assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
}

#[test]
fn f8_extra_refresh_parameters_go_along_and_the_refresh_url_is_honoured() {
    let request = renewal(Definition {
        refresh_url: Some("https://p.example/refresh".into()),
        scope: vec!["a".into(), "b".into()],
        refresh: Call { params: params(&[("scope", "{scope}"), ("audience", "x")]), ..Call::default() },
        ..Definition::default()
    });
    assert_eq!(request.url().as_str(), "https://p.example/refresh");
    assert_eq!(request.body(), "grant_type=refresh_token&refresh_token=r%26r&audience=x&scope=a+b");
    assert!(request.authorization().unwrap().is_sensitive());
}

#[test]
fn the_redirect_uri_goes_along_in_a_renewal_where_the_provider_wants_it() {
    let definition = Definition {
        token_url: Some("https://p.example/token".into()),
        refresh: Call { params: params(&[("redirect_uri", "{redirect_uri}")]), ..Call::default() },
        ..Definition::default()
    };
    let overrides = Overrides { redirect_uri: Some("https://f.example/cb".into()), ..Overrides::default() };
    let provider = Provider::new("custom", definition, overrides).unwrap();
    let request = refresh_token(&provider, &client(), &Secret::new("r"));
    assert!(request.body().ends_with("&redirect_uri=https%3A%2F%2Ff.example%2Fcb"));
}

#[test]
fn parameters_are_renamed_and_left_out() {
    let renamed = [("client_key", "{client_id}"), ("client_id", ""), ("auth_code", "{code}"), ("code", "")];
    let token = Call { params: params(&renamed), ..Call::default() };
    let request = code(Definition { client_auth: ClientAuth::Post, token, ..Definition::default() });
    assert_eq!(
        request.body(),
        "grant_type=authorization_code&redirect_uri=r&client_secret=s%26s&auth_code=c&client_key=id"
    );
}

#[test]
fn a_body_is_a_form_or_json_or_the_query_and_a_get_has_none() {
    let token = Call { format: Some(Format::Json), ..Call::default() };
    let request = code(Definition { token: token.clone(), ..Definition::default() });
    let body: serde_json::Value = serde_json::from_str(request.body()).unwrap();
    assert_eq!(body, json!({"grant_type": "authorization_code", "code": "c", "redirect_uri": "r"}));
    assert_eq!(request.headers()["content-type"], "application/json");
    // A renewal is sent as a code is, unless said otherwise.
    let request = renewal(Definition { token, ..Definition::default() });
    assert_eq!(request.headers()["content-type"], "application/json");
    let get = Call { method: Some(Verb::Get), ..Call::default() };
    let request = renewal(Definition { refresh: get, client_auth: ClientAuth::None, ..Definition::default() });
    assert_eq!((request.method(), request.body()), (&Method::GET, ""));
    assert_eq!(request.url().query(), Some("grant_type=refresh_token&refresh_token=r%26r&client_id=id"));
    let query = Call { format: Some(Format::Query), ..Call::default() };
    let request = renewal(Definition { refresh: query, client_auth: ClientAuth::None, ..Definition::default() });
    assert_eq!((request.method(), request.body()), (&Method::POST, ""));
    assert!(request.url().query().is_some() && !request.headers().contains_key("content-type"));
}

#[test]
fn f7_each_request_proves_the_client_in_the_one_configured_way() {
    let revoke = Call { client_auth: Some(ClientAuth::Basic), ..Call::default() };
    let definition = Definition { client_auth: ClientAuth::Post, revoke, ..Definition::default() };
    assert!(code(definition.clone()).authorization().is_none());
    let request = revoked(definition);
    assert!(request.authorization().is_some() && !request.body().contains("client"));
}

#[test]
fn an_access_token_is_exchanged_for_the_next_one_where_there_is_no_refresh_token() {
    let exchange = [("grant_type", "xx_exchange"), ("xx_exchange_token", "{refresh_token}"), ("refresh_token", "")];
    let refresh = Call { method: Some(Verb::Get), params: params(&exchange), ..Call::default() };
    let mut definition = Definition { refresh, client_auth: ClientAuth::Post, ..Definition::default() };
    definition.answer.refresh_token = vec!["access_token".into()];
    let answer = definition.answer.read(br#"{"access_token":"a1"}"#).unwrap();
    let request = refresh_token(&provider(definition), &client(), &answer.refresh_token.unwrap());
    assert_eq!(
        request.url().query(),
        Some("client_id=id&client_secret=s%26s&grant_type=xx_exchange&xx_exchange_token=a1")
    );
}

#[test]
fn a_second_exchange_sends_what_the_definition_writes_and_nothing_else() {
    let second_url = Some("https://p.example/long".into());
    let call = Call {
        method: Some(Verb::Get),
        client_auth: Some(ClientAuth::None),
        params: params(&[("client_id", ""), ("access_token", "{access_token}"), ("client_secret", "{client_secret}")]),
        ..Call::default()
    };
    let provider = provider(Definition { second_url, second: call, ..Definition::default() });
    let answer = provider.answer.read(br#"{"access_token":"short","refresh_token":"r"}"#).unwrap();
    let request = second(&provider, &client(), &answer).unwrap();
    assert_eq!(request.url().as_str(), "https://p.example/long?access_token=short&client_secret=s%26s");
    let next = provider.answer.read(br#"{"access_token":"long","expires_in":5}"#).unwrap();
    let whole = answer.followed_by(next);
    assert_eq!((whole.access_token.expose(), whole.refresh_token.unwrap().expose()), ("long", "r"));
    assert_eq!(whole.lifetime, Some(std::time::Duration::from_secs(5)));
}

#[test]
fn a_request_is_signed_over_all_its_parameters() {
    let how = Sign { before: "{path}".into(), ..Sign::default() };
    let refresh = Call { sign: Some(how.clone()), params: params(&[("timestamp", "{timestamp}")]), ..Call::default() };
    let request = renewal(Definition { refresh, client_auth: ClientAuth::None, ..Definition::default() });
    let mut fields: Vec<(String, String)> = form_urlencoded::parse(request.body().as_bytes()).into_owned().collect();
    let (name, signature) = fields.pop().unwrap();
    assert_eq!((name.as_str(), signature), ("sign", tag(&how, "s&s", &signed_text(&how, "/token", &fields))));
    assert!(fields.iter().any(|(name, value)| name == "timestamp" && value.parse::<u64>().is_ok()), "{fields:?}");
}

#[test]
fn a_revocation_is_the_providers_own_where_it_is_not_rfc_7009s() {
    let request = revoked(Definition::default());
    assert_eq!(request.body(), "token=t&token_type_hint=access_token");
    let bearer = Call { bearer: true, ..Call::default() };
    let request = revoked(Definition { revoke: bearer, ..Definition::default() });
    assert_eq!((request.body(), request.headers()["authorization"].to_str().unwrap()), ("", "Bearer t"));
    let delete = Call {
        method: Some(Verb::Delete),
        format: Some(Format::Json),
        params: params(&[("access_token", "{token}"), ("token", ""), ("token_type_hint", "")]),
        headers: [("x-token", "{token}"), ("x-version", "1")]
            .map(|(name, value): (&str, &str)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Call::default()
    };
    let definition =
        Definition { revoke: delete, revoke_tokens: vec![TokenKind::AccessToken], ..Definition::default() };
    let request = revoked(definition.clone());
    assert_eq!((request.method(), request.body()), (&Method::DELETE, r#"{"access_token":"t"}"#));
    assert_eq!(
        (&request.headers()["x-token"], &request.headers()["x-version"]),
        (&"t".parse().unwrap(), &"1".parse().unwrap())
    );
    assert!(request.headers()["x-token"].is_sensitive());
    let definition = Definition { revoke_url: Some("https://p.example/revoke".into()), ..definition };
    let refresh = revocation(&provider(definition), &client(), &Secret::new("r"), TokenKind::RefreshToken);
    assert!(refresh.is_none(), "this provider revokes access tokens alone");
}

#[test]
fn the_clients_id_stands_in_the_path_as_one_segment() {
    let definition = Definition {
        revoke_url: Some("https://p.example/apps/{client_id}/grant".into()),
        token_url: Some("https://p.example/token".into()),
        ..Definition::default()
    };
    let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
    for (id, path) in [("Iv1a", "/apps/Iv1a/grant"), ("../x?y", "/apps/..%2Fx%3Fy/grant")] {
        let client = Client { id: id.into(), ..Client::default() };
        let request = revocation(&provider, &client, &Secret::new("t"), TokenKind::AccessToken).unwrap();
        assert_eq!((request.url().path(), request.url().query()), (path, None));
    }
}

#[test]
fn debug_shows_neither_body_nor_header_nor_query() {
    let get = Call { method: Some(Verb::Get), ..Call::default() };
    for refresh in [Call::default(), get] {
        let provider = provider(Definition { refresh, ..Definition::default() });
        let request = refresh_token(&provider, &client(), &Secret::new("marker"));
        assert!(!format!("{request:?}").contains("marker"));
    }
}

#[test]
fn without_a_revocation_endpoint_there_is_no_request() {
    let request = revocation(&provider(Definition::default()), &client(), &Secret::new("r"), TokenKind::RefreshToken);
    assert!(request.is_none());
}
