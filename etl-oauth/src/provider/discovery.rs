//! What a server tells of itself: OpenID Connect Discovery 1.0 and RFC 8414. Pure: documents are read here, not fetched.

use serde::Deserialize;
use url::Url;

use super::{ClientAuth, EndpointError, checked_url};

/// What of a metadata document is used (RFC 8414 §2, RFC 9126 §5, RFC 9207 §3, RFC 8628 §4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// `authorization_endpoint`
    pub authorize_url: Option<Url>,
    /// `token_endpoint`
    pub token_url: Option<Url>,
    /// `revocation_endpoint`
    pub revoke_url: Option<Url>,
    /// `device_authorization_endpoint`
    pub device_url: Option<Url>,
    /// `pushed_authorization_request_endpoint`
    pub par_url: Option<Url>,
    /// `require_pushed_authorization_requests`
    pub par_required: bool,
    /// `token_endpoint_auth_methods_supported`, as far as we know them, in our order of preference.
    pub client_auth: Vec<ClientAuth>,
    /// Whether a challenge by S256 is understood; `None` where the document says nothing.
    pub s256: Option<bool>,
    /// `authorization_response_iss_parameter_supported`: an answer without `iss` is then no answer (RFC 9207 §2.4).
    pub iss_in_answers: bool,
}

/// Why a document is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// No JSON object of that shape.
    #[error("is no metadata document")]
    NotADocument,
    /// RFC 8414 §3.3: compared to the letter. What the document says is not shown: anybody may have written it.
    #[error(
        "names another issuer; `issuer` must be what the document says, to the letter, a slash at the end included"
    )]
    OtherIssuer,
    /// An endpoint that is not to be called.
    #[error("names a {0} that {1}")]
    Endpoint(&'static str, EndpointError),
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    pushed_authorization_request_endpoint: Option<String>,
    #[serde(default)]
    require_pushed_authorization_requests: bool,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Where an issuer's document may be: OpenID appends the path (Discovery §4), RFC 8414 §3.1 puts it before the issuer's.
#[must_use]
pub fn well_known(issuer: &Url) -> [Url; 2] {
    let path = issuer.path().trim_end_matches('/');
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    [
        at(format!("{path}/.well-known/openid-configuration")),
        at(format!("/.well-known/oauth-authorization-server{path}")),
    ]
}

impl Metadata {
    /// Reads the document that was found for `issuer`.
    ///
    /// # Errors
    /// [`MetadataError`]; nothing of such a document is used.
    pub fn read(issuer: &str, body: &[u8]) -> Result<Self, MetadataError> {
        let document: Document = serde_json::from_slice(body).map_err(|_| MetadataError::NotADocument)?;
        if document.issuer != issuer {
            return Err(MetadataError::OtherIssuer);
        }
        let url = |name, text: Option<String>| {
            let read = |text: String| checked_url(&text).map_err(|err| MetadataError::Endpoint(name, err));
            text.map(read).transpose()
        };
        let s256 = document.code_challenge_methods_supported.map(|methods| methods.iter().any(|it| it == "S256"));
        Ok(Self {
            authorize_url: url("authorization_endpoint", document.authorization_endpoint)?,
            token_url: url("token_endpoint", document.token_endpoint)?,
            revoke_url: url("revocation_endpoint", document.revocation_endpoint)?,
            device_url: url("device_authorization_endpoint", document.device_authorization_endpoint)?,
            par_url: url("pushed_authorization_request_endpoint", document.pushed_authorization_request_endpoint)?,
            par_required: document.require_pushed_authorization_requests,
            client_auth: client_auth(document.token_endpoint_auth_methods_supported),
            s256,
            iss_in_answers: document.authorization_response_iss_parameter_supported,
        })
    }
}

/// The methods that both know. Left out it means Basic (RFC 8414 §2).
fn client_auth(supported: Option<Vec<String>>) -> Vec<ClientAuth> {
    let Some(supported) = supported else { return vec![ClientAuth::Basic] };
    [
        ("private_key_jwt", ClientAuth::PrivateKeyJwt),
        ("client_secret_basic", ClientAuth::Basic),
        ("client_secret_post", ClientAuth::Post),
        ("none", ClientAuth::None),
    ]
    .into_iter()
    .filter_map(|(name, auth)| supported.iter().any(|it| it == name).then_some(auth))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_document_is_looked_for_behind_and_before_the_issuers_path() {
        let found = |issuer| well_known(&url(issuer)).map(String::from);
        assert_eq!(
            found("https://a.example"),
            [
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server"
            ]
        );
        assert_eq!(
            found("https://a.example/t/1/"),
            [
                "https://a.example/t/1/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server/t/1"
            ]
        );
    }

    #[test]
    fn the_issuer_is_compared_to_the_letter() {
        let document = br#"{"issuer":"https://a.example/","token_endpoint":"https://a.example/t"}"#;
        assert!(Metadata::read("https://a.example/", document).is_ok());
        for other in ["https://a.example", "https://A.example/", "https://a.example:443/", "http://a.example/"] {
            assert_eq!(Metadata::read(other, document), Err(MetadataError::OtherIssuer), "{other}");
        }
        for nothing in ["", "<html>", "[]", "{}", r#"{"issuer":1}"#] {
            assert_eq!(Metadata::read("", nothing.as_bytes()), Err(MetadataError::NotADocument), "{nothing}");
        }
    }

    #[test]
    fn an_endpoint_without_tls_spoils_the_document() {
        for (name, endpoint) in [
            ("token_endpoint", "http://a.example/t"),
            ("authorization_endpoint", "javascript:alert(1)"),
            ("revocation_endpoint", "https://user:word@a.example/"),
            ("device_authorization_endpoint", "/device"),
            ("pushed_authorization_request_endpoint", "ftp://a.example"),
        ] {
            let document = serde_json::json!({"issuer": "i", name: endpoint}).to_string();
            let err = Metadata::read("i", document.as_bytes()).unwrap_err();
            assert!(err.to_string().contains(name) && !err.to_string().contains(endpoint), "{err}");
        }
        // The endpoints of a server on this machine are as good as its issuer.
        let local = br#"{"issuer":"http://127.0.0.1:1","token_endpoint":"http://127.0.0.1:1/t"}"#;
        assert!(Metadata::read("http://127.0.0.1:1", local).is_ok());
    }

    #[test]
    fn what_is_said_of_methods_is_taken_and_what_is_not_said_has_the_defaults_of_the_rfc() {
        let read = |more: &str| Metadata::read("i", format!(r#"{{"issuer":"i"{more}}}"#).as_bytes()).unwrap();
        let silent = read("");
        assert_eq!((silent.client_auth, silent.s256, silent.iss_in_answers), (vec![ClientAuth::Basic], None, false));
        let said = read(
            r#","token_endpoint_auth_methods_supported":["client_secret_post","tls_client_auth","private_key_jwt"],
               "code_challenge_methods_supported":["plain"],"authorization_response_iss_parameter_supported":true"#,
        );
        assert_eq!(said.client_auth, [ClientAuth::PrivateKeyJwt, ClientAuth::Post]);
        assert_eq!((said.s256, said.iss_in_answers), (Some(false), true));
    }
}
