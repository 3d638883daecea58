//! Client authentication (RFC 6749 §2.3).

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Certificate, assertion::CLIENT_ASSERTION};
use crate::{provider::ClientAuth, token::Secret};

/// This client's identity at the provider (RFC 6749 §2.2, §2.3).
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// `client_id`. Not a secret.
    pub id: String,
    /// `client_secret`; `None` for a public client.
    pub secret: Option<Secret>,
    /// A signed statement in place of a secret, made for the one call (RFC 7523 §2.2).
    pub assertion: Option<Secret>,
    /// A certificate in place of a secret (RFC 8705 §2).
    pub certificate: Option<Certificate>,
    /// What the definition's requests hold of other secrets, by the names of its variables.
    pub secrets: BTreeMap<String, Secret>,
}

impl Client {
    /// The `Authorization` header of a request, where the client proves itself in one.
    pub(super) fn authorization(&self, auth: ClientAuth) -> Option<Secret> {
        let secret = self.secret.as_ref().map_or("", Secret::expose);
        let pair = match auth {
            ClientAuth::Basic => format!("{}:{}", form_encoded(&self.id), form_encoded(secret)),
            ClientAuth::BasicRaw => format!("{}:{secret}", self.id),
            ClientAuth::BasicSecret => format!("{secret}:"),
            ClientAuth::Post | ClientAuth::None | ClientAuth::PrivateKeyJwt | ClientAuth::TlsClientAuth => return None,
        };
        Some(Secret::new(format!("Basic {}", STANDARD.encode(pair))))
    }

    /// Whether the body says by itself whose it is.
    pub(super) fn names_itself(&self, auth: ClientAuth) -> bool {
        self.fields(auth).iter().any(|(name, _)| *name == "client_id")
    }

    /// The fields of the body, where the client proves itself there.
    pub(super) fn fields(&self, auth: ClientAuth) -> Vec<(&'static str, &str)> {
        match auth {
            ClientAuth::Basic | ClientAuth::BasicRaw => Vec::new(),
            // Some grants need no client at all.
            ClientAuth::None if self.id.is_empty() => Vec::new(),
            ClientAuth::None | ClientAuth::BasicSecret | ClientAuth::TlsClientAuth => vec![("client_id", &self.id)],
            ClientAuth::PrivateKeyJwt => {
                let assertion = self.assertion.as_ref().map_or("", Secret::expose);
                vec![
                    ("client_id", &self.id),
                    ("client_assertion_type", CLIENT_ASSERTION),
                    ("client_assertion", assertion),
                ]
            }
            ClientAuth::Post => {
                vec![("client_id", &self.id), ("client_secret", self.secret.as_ref().map_or("", Secret::expose))]
            }
        }
    }
}

/// What stays as it is in client authentication: the unreserved characters (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// RFC 6749 Appendix B, in the one spelling that every measured server decodes alike: unreserved characters stay, every
/// other byte is `%XX`, a space is `%20` and never `+`.
fn form_encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        let secret = Some(Secret::new("s3cr:et+/% &x%20é"));
        Client { id: "id:1".into(), secret, assertion: Some(Secret::new("signed")), ..Client::default() }
    }

    fn basic(auth: ClientAuth) -> String {
        let header = client().authorization(auth).unwrap();
        let encoded = header.expose().strip_prefix("Basic ").unwrap();
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
    }

    #[test]
    fn f6_basic_is_form_encoded_by_default_and_raw_where_the_provider_wants_it() {
        assert_eq!(basic(ClientAuth::Basic), "id%3A1:s3cr%3Aet%2B%2F%25%20%26x%2520%C3%A9");
        assert_eq!(basic(ClientAuth::BasicRaw), "id:1:s3cr:et+/% &x%20é");
        assert_eq!(basic(ClientAuth::BasicSecret), "s3cr:et+/% &x%20é:");
    }

    #[test]
    fn one_method_of_authentication_a_request() {
        for auth in [ClientAuth::Basic, ClientAuth::BasicRaw] {
            assert!(client().fields(auth).is_empty());
        }
        assert!(client().authorization(ClientAuth::Post).is_none() && client().fields(ClientAuth::Post).len() == 2);
        assert_eq!(client().fields(ClientAuth::None), [("client_id", "id:1")]);
        let (client, jwt) = (client(), ClientAuth::PrivateKeyJwt);
        assert!(client.authorization(jwt).is_none());
        assert_eq!(
            client.fields(jwt)[1..],
            [
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", "signed")
            ]
        );
    }
}
