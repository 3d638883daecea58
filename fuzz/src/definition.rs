use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use token_keeper::{
    grant::{self, Client, HttpResponse},
    provider::{Call, Definition, Overrides, Provider, Source, TokenKind, is_loopback},
    token::Secret,
};

/// A provider's definition, as a file has it. What is taken for one can be asked by, and its answers can be read.
pub fn definition(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains("marker-of-the") {
        return;
    }
    let definition = match Definition::read("fuzz.toml", text) {
        Ok(definition) => definition,
        Err(wrong) => {
            assert!(wrong.iter().all(|line| line.starts_with("fuzz.toml:")), "{wrong:?}");
            assert!(!wrong.is_empty(), "a mistake without a word");
            return;
        }
    };
    match Provider::new("fuzz", definition, Overrides::default()) {
        Ok(provider) => {
            asks(&provider);
            let now: Timestamp = "2026-11-21T09:00:00Z".parse().unwrap();
            for (status, body) in ANSWERS {
                let raw = HttpResponse { status, headers: HeaderMap::new(), body: body.into(), at: now };
                crate::token_answer::consequences(&provider, &raw, now);
            }
        }
        Err(wrong) => assert!(!wrong.is_empty(), "a mistake without a word"),
    }
}

const ANSWERS: [(StatusCode, &str); 3] = [
    (
        StatusCode::OK,
        r#"{"access_token":"a","refresh_token":"r","expires_in":3600,"data":{"access_token":"b"},"list":["c"]}"#,
    ),
    (StatusCode::OK, r#"{"data":{"token":"t","expires_at":"2026-12-01T00:00:00Z"},"scope":["x","y"]}"#),
    (StatusCode::BAD_REQUEST, r#"{"error":"invalid_grant"}"#),
];

/// The requests that a provider is asked with: secrets are in no URL, unless the definition says that it knows of them.
pub(crate) fn asks(provider: &Provider) {
    let secrets = provider.variables.iter().filter(|(_, variable)| variable.from == Source::Secret);
    let client = Client {
        id: "id".into(),
        secret: Some(Secret::new("marker-of-the-client")),
        secrets: secrets.map(|(name, _)| (name.clone(), Secret::new("marker-of-the-secret"))).collect(),
        ..Client::default()
    };
    let (verifier, token) = (Secret::new("marker-of-the-verifier"), Secret::new("marker-of-the-token"));
    let redirect = "https://g.example/function/fuzz/oauth2/callback";
    if let Some(url) = grant::authorize_url(provider, &client.id, redirect, "the-state", &verifier) {
        assert!(url.scheme() == "https" || is_loopback(&url), "{url}");
        // Under whatever name: without the state nobody's way back is believed.
        assert!(url.as_str().contains("the-state"), "the state does not go along: {url}");
        crate::shows_no_secret(url.as_str());
    }
    let exchange = grant::authorization_code(provider, &client, "the-code", redirect, Some(&verifier));
    let renewal = grant::refresh_token(provider, &client, &token);
    let revocation = grant::revocation(provider, &client, &token, TokenKind::RefreshToken);
    let introspection = grant::introspection(provider, &client, &token);
    let known = |call: &Call| call.secrets_in_query;
    for (request, known) in [
        (Some(exchange), known(&provider.token)),
        (Some(renewal), known(&provider.refresh.or(&provider.token))),
        (revocation, known(&provider.revoke)),
        (introspection, known(&provider.introspect)),
    ] {
        let Some(request) = request else { continue };
        assert!(request.url().scheme() == "https" || is_loopback(request.url()));
        if !known {
            crate::shows_no_secret(request.url().as_str());
        }
        crate::shows_no_secret(&format!("{request:?}"));
        crate::shows_no_secret(&format!("{:?}", request.headers()));
    }
}
