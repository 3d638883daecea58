//! A server's metadata: OpenID Connect Discovery 1.0 and RFC 8414. Pure: documents are read here, not fetched.

use serde::Deserialize;
use url::Url;

use super::{ClientAuth, EndpointError, RsaAlgorithm, checked_url, is_loopback};

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
    /// `registration_endpoint` (RFC 7591)
    pub registration_url: Option<Url>,
    /// `introspection_endpoint`
    pub introspect_url: Option<Url>,
    /// `mtls_endpoint_aliases`: where a client shows its certificate, for those endpoints that have such a place (RFC 8705 §5).
    pub mtls: Aliases,
    /// `require_pushed_authorization_requests`
    pub par_required: bool,
    /// `token_endpoint_auth_methods_supported`, as far as we know them, in our order of preference.
    pub client_auth: Vec<ClientAuth>,
    /// `token_endpoint_auth_signing_alg_values_supported`: the first of ours that it lists; `None` where it lists none.
    pub rsa_algorithm: Option<RsaAlgorithm>,
    /// Whether a challenge by S256 is understood; `None` where the document says nothing.
    pub s256: Option<bool>,
    /// `authorization_response_iss_parameter_supported`: an answer without `iss` is then no answer (RFC 9207 §2.4).
    pub iss_in_answers: bool,
}

/// Other addresses of the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the Metadata field of the same name")]
pub struct Aliases {
    pub token_url: Option<Url>,
    pub revoke_url: Option<Url>,
    pub device_url: Option<Url>,
    pub par_url: Option<Url>,
    pub introspect_url: Option<Url>,
}

/// Why a document is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// No JSON object of that shape.
    #[error("is no metadata document")]
    NotADocument,
    /// RFC 8414 §3.3: compared to the letter. Nothing of the document is shown: its author is unknown.
    #[error(
        "names another issuer; `issuer` must be what the document says, to the letter, a slash at the end included"
    )]
    OtherIssuer,
    /// RFC 9728 §3.3: the document of another resource than the one that was asked.
    #[error("is that of another resource")]
    OtherResource,
    /// An endpoint on this machine, named by a server elsewhere.
    #[error("names a {0} on this machine, and is not here itself")]
    Loopback(&'static str),
    /// An endpoint that is not to be called.
    #[error("names a {0} that {1}")]
    Endpoint(&'static str, EndpointError),
}

/// The endpoints that have aliases.
#[derive(Default, Deserialize)]
struct Endpoints {
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    pushed_authorization_request_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    registration_endpoint: Option<String>,
    #[serde(flatten)]
    endpoints: Endpoints,
    mtls_endpoint_aliases: Option<Endpoints>,
    #[serde(default)]
    require_pushed_authorization_requests: bool,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
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
        // Only a server on this machine names endpoints on this machine: no other one sends us to a neighbour of ours.
        let local = issuer.parse().is_ok_and(|url| is_loopback(&url));
        let url = |name, text: Option<String>| {
            let read = |text: String| match checked_url(&text) {
                Ok(url) if is_loopback(&url) && !local => Err(MetadataError::Loopback(name)),
                Ok(url) => Ok(url),
                Err(err) => Err(MetadataError::Endpoint(name, err)),
            };
            text.map(read).transpose()
        };
        let aliases = |it: Endpoints| {
            Ok(Aliases {
                token_url: url("token_endpoint", it.token_endpoint)?,
                revoke_url: url("revocation_endpoint", it.revocation_endpoint)?,
                device_url: url("device_authorization_endpoint", it.device_authorization_endpoint)?,
                par_url: url("pushed_authorization_request_endpoint", it.pushed_authorization_request_endpoint)?,
                introspect_url: url("introspection_endpoint", it.introspection_endpoint)?,
            })
        };
        let plain = aliases(document.endpoints)?;
        let algorithms = document.token_endpoint_auth_signing_alg_values_supported.unwrap_or_default();
        let s256 = document.code_challenge_methods_supported.map(|methods| methods.iter().any(|it| it == "S256"));
        Ok(Self {
            authorize_url: url("authorization_endpoint", document.authorization_endpoint)?,
            registration_url: url("registration_endpoint", document.registration_endpoint)?,
            token_url: plain.token_url,
            revoke_url: plain.revoke_url,
            device_url: plain.device_url,
            par_url: plain.par_url,
            introspect_url: plain.introspect_url,
            mtls: aliases(document.mtls_endpoint_aliases.unwrap_or_default())?,
            par_required: document.require_pushed_authorization_requests,
            client_auth: client_auth(document.token_endpoint_auth_methods_supported),
            rsa_algorithm: RsaAlgorithm::ALL.into_iter().find(|it| algorithms.iter().any(|name| name == it.name())),
            s256,
            iss_in_answers: document.authorization_response_iss_parameter_supported,
        })
    }

    /// The same with the addresses for a client that shows a certificate (RFC 8705 §5).
    #[must_use]
    pub fn by_certificate(&self) -> Self {
        let (it, other) = (self.clone(), self.mtls.clone());
        Self {
            token_url: other.token_url.or(it.token_url),
            revoke_url: other.revoke_url.or(it.revoke_url),
            device_url: other.device_url.or(it.device_url),
            par_url: other.par_url.or(it.par_url),
            introspect_url: other.introspect_url.or(it.introspect_url),
            ..it
        }
    }
}

/// The methods that both know. Left out it means Basic (RFC 8414 §2).
fn client_auth(supported: Option<Vec<String>>) -> Vec<ClientAuth> {
    let Some(supported) = supported else { return vec![ClientAuth::Basic] };
    [
        ("tls_client_auth", ClientAuth::TlsClientAuth),
        ("self_signed_tls_client_auth", ClientAuth::TlsClientAuth),
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
        let neighbour = br#"{"issuer":"https://a.example","token_endpoint":"https://127.0.0.1/t"}"#;
        assert_eq!(Metadata::read("https://a.example", neighbour), Err(MetadataError::Loopback("token_endpoint")));
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
        assert_eq!(said.client_auth, [ClientAuth::TlsClientAuth, ClientAuth::PrivateKeyJwt, ClientAuth::Post]);
        assert_eq!((said.s256, said.iss_in_answers), (Some(false), true));
    }
    #[test]
    fn a_client_with_a_certificate_goes_where_certificates_are_asked_for() {
        let document = br#"{"issuer":"i","token_endpoint":"https://a.example/t","revocation_endpoint":"https://a.example/r",
            "mtls_endpoint_aliases":{"token_endpoint":"https://mtls.a.example/t","userinfo_endpoint":"https://mtls.a.example/u"}}"#;
        let plain = Metadata::read("i", document).unwrap();
        let url = |url: Option<Url>| url.map(String::from).unwrap_or_default();
        assert_eq!(url(plain.token_url.clone()), "https://a.example/t");
        let other = plain.by_certificate();
        assert_eq!(
            (url(other.token_url), url(other.revoke_url)),
            ("https://mtls.a.example/t".to_owned(), "https://a.example/r".to_owned())
        );
        let unsafe_one = br#"{"issuer":"i","mtls_endpoint_aliases":{"token_endpoint":"http://a.example/t"}}"#;
        assert!(Metadata::read("i", unsafe_one).is_err());
    }
}
