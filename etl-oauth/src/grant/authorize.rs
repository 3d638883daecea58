use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use url::Url;

use super::request::resources;
use crate::{
    provider::{Pkce, Provider},
    token::Secret,
};

/// The URL that asks a person (RFC 6749 §4.1.1), with an S256 challenge unless the provider refuses one; `None` where the
/// provider has no authorization endpoint.
#[must_use]
pub fn authorize_url(
    provider: &Provider,
    client_id: &str,
    redirect_uri: &str,
    state: &str,
    verifier: &Secret,
) -> Option<Url> {
    let mut url = provider.authorize_url.clone()?;
    {
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", client_id)
            .append_pair("redirect_uri", redirect_uri);
        if !provider.scope.is_empty() {
            query.append_pair("scope", &provider.scope_text());
        }
        query.append_pair("state", state);
        if provider.pkce() == Pkce::S256 {
            let challenge = digest::digest(&digest::SHA256, verifier.expose().as_bytes());
            query
                .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(challenge))
                .append_pair("code_challenge_method", "S256");
        }
        query.extend_pairs(resources(provider)).extend_pairs(&provider.authorize_params);
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Definition, Overrides};

    fn provider(definition: Definition) -> Provider {
        let authorize_url = Some("https://p.example/authorize?tenant=1".into());
        let token_url = Some("https://p.example/token".into());
        Provider::new("custom", Definition { authorize_url, token_url, ..definition }, Overrides::default()).unwrap()
    }

    #[test]
    fn the_request_carries_state_challenge_scope_and_the_definitions_parameters() {
        let definition = Definition {
            scope: vec!["a".into(), "b".into()],
            scope_separator: ",".into(),
            authorize_params: [("access_type".to_owned(), "offline".to_owned())].into(),
            ..Definition::default()
        };
        // The pair of RFC 7636, Appendix B.
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let url = authorize_url(&provider(definition), "id", "https://f.example/cb", "st", &verifier).unwrap();
        assert_eq!(
            url.as_str(),
            "https://p.example/authorize?tenant=1&response_type=code&client_id=id&redirect_uri=https%3A%2F%2Ff.example%2Fcb\
             &scope=a%2Cb&state=st&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
             &code_challenge_method=S256&access_type=offline"
        );
    }

    #[test]
    fn f13_the_challenge_is_there_unless_the_definition_turns_it_off() {
        let with = |pkce| {
            let definition = Definition { pkce, ..Definition::default() };
            let url = authorize_url(&provider(definition), "id", "r", "s", &Secret::new("v")).unwrap();
            url.as_str().contains("code_challenge")
        };
        assert!(with(Some(Pkce::S256)) && with(None) && !with(Some(Pkce::Off)));
    }
}
