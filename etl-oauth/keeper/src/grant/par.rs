//! Pushed authorization requests (RFC 9126): what is asked for goes to the server directly, and the browser carries a
//! reference to it.

use serde_json::Value;
use url::Url;

use super::{Client, HttpResponse, TokenRequest, judge_revocation, token_request::with_client_id};
use crate::{
    provider::{Call, Provider},
    token::{Failure, FailureKind},
};

/// §2.1: the parameters of the authorization request `url`; `None` where the provider takes none.
#[must_use]
pub fn pushed(provider: &Provider, client: &Client, url: &Url) -> Option<TokenRequest> {
    let named = client.names_itself(provider.client_auth);
    // The endpoint's own query goes along: what stands in it may be of the request (`prompt=consent`), and what the browser
    // brings beside the reference does not count.
    let pairs: Vec<_> = url.query_pairs().filter(|(name, _)| !(named && name == "client_id")).collect();
    let fields: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
    Some(TokenRequest::new(provider.par_url.as_ref()?, &Call::default(), provider, client, &fields))
}

/// Where the browser goes with the answer to [`pushed`] (§4).
///
/// # Errors
/// The [`Failure`].
pub fn judge_pushed(provider: &Provider, client: &Client, raw: &HttpResponse) -> Result<Url, Failure> {
    judge_revocation(provider, raw)?;
    let malformed = || Failure::new(FailureKind::MalformedAnswer, "the answer to the pushed request is none");
    let fields = crate::token::object(&raw.body).ok_or_else(malformed)?;
    let reference = fields.get("request_uri").and_then(Value::as_str).filter(|uri| !uri.is_empty());
    let mut url = with_client_id(provider.authorize_url.as_ref().ok_or_else(malformed)?, &client.id);
    url.query_pairs_mut()
        .append_pair("client_id", &client.id)
        .append_pair("request_uri", reference.ok_or_else(malformed)?);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use jiff::Timestamp;

    use super::*;
    use crate::{
        grant::authorize_url,
        provider::{ClientAuth, Definition, Overrides},
        token::Secret,
    };

    #[test]
    fn the_request_is_pushed_and_the_browser_carries_a_reference() {
        let definition = Definition {
            authorize_url: Some("https://p.example/authorize?tenant=1".into()),
            token_url: Some("https://p.example/token".into()),
            par_url: Some("https://p.example/par".into()),
            client_auth: ClientAuth::Post,
            ..Definition::default()
        };
        let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
        let client = Client { id: "id".into(), secret: Some(Secret::new("s")), ..Client::default() };
        let url = authorize_url(&provider, "id", "https://f.example/cb", "st", &Secret::new("v")).unwrap();
        let request = pushed(&provider, &client, &url).unwrap();
        let body = request.body();
        assert!(body.starts_with("tenant=1&response_type=code&redirect_uri="), "{body}");
        assert_eq!((body.matches("client_id=id").count(), body.contains("state=st")), (1, true));

        let raw = |status, body: &str| HttpResponse {
            status,
            headers: HeaderMap::new(),
            body: body.into(),
            at: Timestamp::UNIX_EPOCH,
        };
        let answer = raw(StatusCode::CREATED, r#"{"request_uri":"urn:x:1","expires_in":60}"#);
        assert_eq!(
            judge_pushed(&provider, &client, &answer).unwrap().as_str(),
            "https://p.example/authorize?tenant=1&client_id=id&request_uri=urn%3Ax%3A1"
        );
        let refused = raw(StatusCode::BAD_REQUEST, r#"{"error":"invalid_scope"}"#);
        assert_eq!(judge_pushed(&provider, &client, &refused).unwrap_err().code(), Some("invalid_scope"));
        let nothing = raw(StatusCode::CREATED, "{}");
        assert_eq!(judge_pushed(&provider, &client, &nothing).unwrap_err().class(), FailureKind::MalformedAnswer);
    }
}
