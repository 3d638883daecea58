//! Signed statements: their claims, their keys, and those that are the API's token themselves.

use base64::{Engine as _, engine::general_purpose};
use token_keeper::{
    grant::{Authority, Credentials, HttpClient, SendError},
    provider::KeyText,
    secrets::Secrets,
    token::{TokenResponse, jwt},
};

use super::*;

const HEADING: &str = "A statement as the API's token";

/// The token that a definition without a token endpoint makes, with these secrets mounted.
async fn made(provider: Provider, secrets: &[(&str, &str)]) -> Result<TokenResponse, String> {
    let folder = tempfile::tempdir().unwrap();
    let needed = Credentials::needed_by(&provider, provider.said_client_auth());
    assert_eq!(needed, secrets.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, value) in secrets {
        fs::write(folder.path().join(name), value).unwrap();
    }
    let credentials = Credentials::mounted(Secrets::new(folder.path(), ""), None);
    // Nothing is asked for.
    let wire = HttpClient::new(|_| std::future::ready(Err(SendError::NotSent)));
    let authority = Authority::new(provider, credentials, wire);
    authority.ask(None, Timestamp::now()).await.map_err(|failure| failure.to_string())
}

fn header(token: &Secret) -> Value {
    let header = token.expose().split('.').next().unwrap();
    serde_json::from_slice(&general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

#[tokio::test]
async fn a_statement_as_the_apis_token() {
    let it = with(HEADING, &[("account", "ACME"), ("user", "ETL")]);
    assert!(it.is_self_signed() && it.identity() == "example");
    let key = rcgen::KeyPair::generate().unwrap();
    let answer = made(it, &[("oauth2-private-key", &key.serialize_pem())]).await.unwrap();
    let claims = jwt::claims(&answer.access_token).unwrap();
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &rcgen::PublicKeyData::subject_public_key_info(&key));
    let issuer = format!("ACME.ETL.SHA256:{}", general_purpose::STANDARD.encode(digest));
    assert_eq!((&claims["iss"], &claims["sub"], &claims["aud"]), (&issuer.into(), &"ACME.ETL".into(), &"a-v1".into()));
    assert_eq!((&claims["bid"], &claims["admin"]), (&"com.a.app".into(), &true.into()));
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!((life, claims.contains_key("jti"), &header(&answer.access_token)["alg"]), (600, false, &"ES256".into()));
}

#[tokio::test]
async fn a_statement_that_the_clients_secret_signs() {
    let it = || {
        let variables = [("site".to_owned(), "acme".to_owned())].into();
        Provider::new("example", example(HEADING, 1), Overrides { variables, ..Overrides::default() }).unwrap()
    };
    let secrets = [("oauth2-client-id", "key-1"), ("oauth2-client-secret", "00ff10")];
    let answer = made(it(), &secrets).await.unwrap();
    let (signed, tag) = answer.access_token.expose().rsplit_once('.').unwrap();
    let ours = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[0, 0xff, 0x10]), signed.as_bytes());
    assert_eq!(tag, general_purpose::URL_SAFE_NO_PAD.encode(ours));
    assert_eq!(header(&answer.access_token), serde_json::json!({"alg": "HS256", "kid": "key-1", "typ": "JWT"}));
    let claims = jwt::claims(&answer.access_token).unwrap();
    assert!(!claims.contains_key("iss") && !claims.contains_key("sub") && claims["aud"] == "/admin/");
    assert_eq!(it().assertion.hmac, Some(KeyText::Hex));
    let wrong = made(it(), &[secrets[0], ("oauth2-client-secret", "not hex")]).await.unwrap_err();
    assert!(wrong.contains("oauth2-client-secret is not written as assertion.hmac says") && !wrong.contains("not hex"));
}
