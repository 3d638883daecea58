//! The authorization request (RFC 6749 §4.1.1) and the errors of its redirect (§4.1.2.1).

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use url::{Url, form_urlencoded};

use super::{
    Client,
    request::resources,
    template_vars::TemplateVars,
    token_request::{laid_over, texts, with_client_id},
};
use crate::{
    provider::{Pkce, Provider},
    token::{Failure, FailureKind, Secret},
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
    let mut url = with_client_id(provider.authorize_url.as_ref()?, client_id);
    let scope = provider.scope_text();
    let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.expose().as_bytes()));
    let mut fields = vec![
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("scope", &*scope),
        ("state", state),
    ];
    fields.extend(resources(provider));
    if provider.pkce == Pkce::S256 {
        fields.extend([("code_challenge", &*challenge), ("code_challenge_method", "S256")]);
    }
    let client = Client { id: client_id.to_owned(), ..Client::default() };
    let blanks = TemplateVars::new(provider, &client, &fields);
    let params = provider.authorize.params.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect();
    let pairs = texts(&laid_over(&fields, &params, &blanks));
    let query: Vec<_> = pairs.iter().map(|(name, value)| pair(name, value, &provider.authorize.raw)).collect();
    let query = query.join("&");
    match url.fragment() {
        Some(fragment) if provider.authorize.fragment => {
            let mark = if fragment.contains('?') { '&' } else { '?' };
            url.set_fragment(Some(&format!("{fragment}{mark}{query}")));
        }
        _ => {
            let query = url.query().map_or_else(|| query.clone(), |given| format!("{given}&{query}"));
            url.set_query(Some(&query));
        }
    }
    Some(url)
}

/// What the `error` of a redirect means (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6): an outage that passes, a person
/// who has to do something, or a client that is not configured as the provider wants it. Its description is not shown:
/// anyone can write one into an address.
#[must_use]
pub fn judge_redirect_error(code: &str) -> Failure {
    let (class, detail) = match code {
        "temporarily_unavailable" | "server_error" => {
            (FailureKind::ProviderUnavailable, "the provider cannot answer an authorization request just now")
        }
        "access_denied" => (FailureKind::InvalidGrant, "access was not allowed"),
        "interaction_required" | "login_required" | "consent_required" | "account_selection_required" => {
            (FailureKind::InvalidGrant, "the provider wants the person to sign in or to consent")
        }
        "invalid_scope" => (FailureKind::Config, "the provider does not allow this client the scope"),
        "unauthorized_client" => (FailureKind::InvalidClient, "the provider does not allow this client such a request"),
        _ => (FailureKind::Config, "the provider refuses the authorization request"),
    };
    Failure::new(class, detail).with_code(code)
}

/// One parameter. A raw value is written as it is, unless it would end the parameter or the query; what no query may hold, a
/// space for one, is encoded by percent signs.
fn pair(name: &str, value: &str, raw: &[String]) -> String {
    if raw.iter().any(|it| it == name) && !value.contains(['&', '#']) {
        return format!("{name}={value}");
    }
    form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Authorize, Definition, Overrides};

    fn params(params: &[(&str, &str)]) -> Authorize {
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Authorize { params, ..Authorize::default() }
    }

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
            authorize: params(&[("access_type", "offline")]),
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
        assert!(with(Pkce::S256) && with(Pkce::default()) && !with(Pkce::Off));
    }

    fn url_of(definition: Definition) -> String {
        authorize_url(&provider(definition), "id", "r", "s", &Secret::new("v")).unwrap().into()
    }

    #[test]
    fn a_parameter_of_the_definition_takes_the_place_of_the_standard_one_and_an_empty_one_is_left_out() {
        let authorize =
            params(&[("app_id", "{client_id}"), ("client_id", ""), ("response_type", ""), ("st", "{state}")]);
        let authorize = Authorize {
            params: [("state".into(), String::new())].into_iter().chain(authorize.params).collect(),
            ..authorize
        };
        let definition = Definition { authorize, pkce: Pkce::Off, ..Definition::default() };
        assert_eq!(url_of(definition), "https://p.example/authorize?tenant=1&redirect_uri=r&app_id=id&st=s");
    }

    #[test]
    fn the_parameters_go_into_the_fragment_where_the_page_reads_them_there() {
        let definition = Definition {
            authorize_url: Some("https://p.example/app#/oauth".into()),
            authorize: Authorize { fragment: true, ..Authorize::default() },
            pkce: Pkce::Off,
            token_url: Some("https://p.example/token".into()),
            ..Definition::default()
        };
        let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
        let url = authorize_url(&provider, "id", "r", "s", &Secret::new("v")).unwrap();
        assert_eq!(url.as_str(), "https://p.example/app#/oauth?response_type=code&client_id=id&redirect_uri=r&state=s");
    }

    #[test]
    fn o7_an_outage_at_the_authorization_endpoint_is_no_wrong_client() {
        for (code, class) in [
            ("temporarily_unavailable", FailureKind::ProviderUnavailable),
            ("server_error", FailureKind::ProviderUnavailable),
            ("unauthorized_client", FailureKind::InvalidClient),
            ("invalid_scope", FailureKind::Config),
            ("login_required", FailureKind::InvalidGrant),
            ("made up", FailureKind::Config),
        ] {
            let failure = judge_redirect_error(code);
            assert_eq!((failure.class(), failure.code()), (class, Some(code)));
        }
    }

    #[test]
    fn a_raw_value_is_not_encoded_unless_it_would_end_the_parameter() {
        let with = |scope: &str| {
            let authorize = Authorize { raw: vec!["scope".into()], ..Authorize::default() };
            let scope = vec![scope.to_owned()];
            url_of(Definition {
                authorize,
                scope,
                scope_separator: ",".into(),
                pkce: Pkce::Off,
                ..Definition::default()
            })
        };
        assert!(with("https://a/b:c,d+e%20").contains("&scope=https://a/b:c,d+e%20&"));
        assert!(with("a b\u{e9}").contains("&scope=a%20b%C3%A9&"));
        assert!(with("a&state=x").contains("&scope=a%26state%3Dx&"));
        assert!(with("a#").contains("&scope=a%23&"));
    }
}
