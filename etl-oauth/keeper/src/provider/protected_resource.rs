//! The metadata of a protected resource (RFC 9728): which server issues the tokens that an API takes. Pure: documents are read
//! here, not fetched.

use serde::Deserialize;
use url::Url;

use super::{MetadataError, checked_url, is_loopback};

/// What of the document is used (RFC 9728 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtectedResource {
    /// `resource`: what tokens are asked for (RFC 8707 §2).
    pub resource: String,
    /// `authorization_servers`: the issuers, in the document's order.
    pub issuers: Vec<String>,
    /// `scopes_supported`
    pub scopes: Vec<String>,
    /// `resource_name`
    pub name: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
    resource_name: Option<String>,
}

/// Where a resource's document may be (RFC 9728 §3.1): at the path of the resource, and at its host.
#[must_use]
pub fn resource_well_known(resource: &Url) -> Vec<Url> {
    let path = resource.path().trim_end_matches('/');
    let at = |path: &str| {
        let mut url = resource.clone();
        url.set_path(&format!("/.well-known/oauth-protected-resource{path}"));
        url.set_query(None);
        url
    };
    if path.is_empty() { vec![at("")] } else { vec![at(path), at("")] }
}

/// The address of the document that a refusal names (RFC 9728 §5.1), in the value of a `WWW-Authenticate` header.
#[must_use]
pub fn named_in_challenge(challenge: &str) -> Option<Url> {
    let (_, rest) = challenge.split_once("resource_metadata=")?;
    let url = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => rest.split([',', ' ']).next()?,
    };
    checked_url(url).ok()
}

impl ProtectedResource {
    /// Reads the document that was found for the resource at `url`.
    ///
    /// # Errors
    /// [`MetadataError`]: it is none, or that of another resource (RFC 9728 §3.3): at another host, or not at or above the path.
    pub fn read(url: &Url, body: &[u8]) -> Result<Self, MetadataError> {
        let document: Document = serde_json::from_slice(body).map_err(|_| MetadataError::NotADocument)?;
        let theirs = checked_url(&document.resource).map_err(|err| MetadataError::Endpoint("resource", err))?;
        let above = |path: &str| {
            let path = path.trim_end_matches('/');
            url.path().strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if theirs.origin() != url.origin() || !above(theirs.path()) {
            return Err(MetadataError::OtherResource);
        }
        let local = is_loopback(url);
        for issuer in &document.authorization_servers {
            match checked_url(issuer) {
                Ok(issuer) if is_loopback(&issuer) && !local => return Err(MetadataError::Loopback("issuer")),
                Ok(_) => {}
                Err(err) => return Err(MetadataError::Endpoint("issuer", err)),
            }
        }
        Ok(Self {
            resource: document.resource,
            issuers: document.authorization_servers,
            scopes: document.scopes_supported,
            name: document.resource_name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_document_is_looked_for_at_the_resources_path_and_at_its_host() {
        let found = |text| resource_well_known(&url(text)).into_iter().map(String::from).collect::<Vec<_>>();
        let host = "https://a.example/.well-known/oauth-protected-resource";
        assert_eq!(found("https://a.example/mcp/?x=1"), [format!("{host}/mcp"), host.to_owned()]);
        assert_eq!(found("https://a.example/"), [host]);
    }

    #[test]
    fn a_challenge_names_the_document() {
        let quoted = r#"Bearer error="invalid_token", resource_metadata="https://a.example/m?x=1", scope="s""#;
        assert_eq!(named_in_challenge(quoted), Some(url("https://a.example/m?x=1")));
        assert_eq!(
            named_in_challenge("Bearer resource_metadata=https://a.example/m, x=y"),
            Some(url("https://a.example/m"))
        );
        for none in ["Bearer", r#"Bearer resource_metadata="http://a.example/""#, r#"Bearer resource_metadata="/m""#] {
            assert_eq!(named_in_challenge(none), None, "{none}");
        }
    }

    #[test]
    fn the_document_of_another_resource_is_not_believed() {
        let read = |resource: &str, issuer: &str| {
            let body = format!(r#"{{"resource":"{resource}","authorization_servers":["{issuer}"]}}"#);
            ProtectedResource::read(&url("https://a.example/mcp/v1"), body.as_bytes())
        };
        for good in ["https://a.example/mcp/v1", "https://a.example/mcp/", "https://a.example", "https://a.example/"] {
            assert_eq!(read(good, "https://as.example/").unwrap().issuers, ["https://as.example/"], "{good}");
        }
        for other in [
            "https://b.example/mcp/v1",
            "https://a.example:8443/",
            "https://a.example/mc",
            "https://a.example/mcp/v1/x",
        ] {
            assert_eq!(read(other, "https://as.example").unwrap_err(), MetadataError::OtherResource, "{other}");
        }
        assert!(matches!(read("https://a.example", "http://as.example"), Err(MetadataError::Endpoint("issuer", _))));
        assert_eq!(read("https://a.example", "http://127.0.0.1:1").unwrap_err(), MetadataError::Loopback("issuer"));
        assert!(matches!(
            ProtectedResource::read(&url("https://a.example"), b"<html>"),
            Err(MetadataError::NotADocument)
        ));
    }
}
