//! URLs of variables, checked.

use token_keeper::provider::checked_url;
use url::Url;

pub(super) fn default_gateway() -> Url {
    // A constant, and a URL.
    #[expect(clippy::expect_used, reason = "a constant, and a URL")]
    "http://gateway.openfaas:8080".parse().expect("a URL")
}

pub(super) fn endpoint(text: &str) -> Result<Url, String> {
    checked_url(text).map_err(|err| err.to_string())
}

/// The gateway is inside the cluster, where http is the rule.
pub(super) fn gateway_url(text: &str) -> Result<Url, String> {
    let url: Url =
        text.parse().map_err(|_| "is not an absolute URL such as http://gateway.openfaas:8080".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("must begin with http:// or https://".into());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("must hold neither credentials nor a query: the password is the secret basic-auth-password".into());
    }
    Ok(url)
}

pub(super) fn browser_url(text: &str) -> Result<Url, String> {
    let mut url = endpoint(text)?;
    if url.query().is_some() {
        return Err("must not hold a query".into());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}
