//! URLs of endpoints: https, or http on loopback.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Why a URL is not taken for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Not an absolute URL.
    #[error("is not an absolute URL such as https://host/path")]
    NotAUrl,
    /// RFC 6749 §3.1, §3.2: TLS, always. On a loopback address there is no one between.
    #[error("must begin with https:// (http:// is for loopback hosts such as 127.0.0.1 alone)")]
    NotTls,
    /// A user name or a password in a URL ends up in logs.
    #[error("must not hold a user name or password")]
    Credentials,
    /// RFC 6749 §3.1.2: no fragment.
    #[error("must not hold a fragment (#…)")]
    Fragment,
}

/// Reads the URL of an endpoint: https, or http on a loopback host; no credentials, no fragment.
///
/// # Errors
/// [`EndpointError`] says which of these it breaks.
pub fn checked_url(text: &str) -> Result<Url, EndpointError> {
    checked_beside(text, None)
}

/// The same, and http at the very origin of `platform`: what answers there holds the function's secrets anyway.
///
/// # Errors
/// [`EndpointError`] says which of these it breaks.
pub fn checked_beside(text: &str, platform: Option<&Url>) -> Result<Url, EndpointError> {
    let url: Url = text.trim().parse().map_err(|_| EndpointError::NotAUrl)?;
    if url.cannot_be_a_base() || !url.has_host() {
        return Err(EndpointError::NotAUrl);
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) || platform.is_some_and(|platform| platform.origin() == url.origin()) => {}
        _ => return Err(EndpointError::NotTls),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EndpointError::Credentials);
    }
    if url.fragment().is_some() {
        return Err(EndpointError::Fragment);
    }
    Ok(url)
}

/// Whether the host is this machine's own by its very name: `localhost`, 127.0.0.0/8, `[::1]`. No name is looked up.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => Ipv4Addr::is_loopback(&address),
        Some(Host::Ipv6(address)) => Ipv6Addr::is_loopback(&address),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_own_origin_may_do_without_tls_and_no_other() {
        let platform: Url = "http://gateway.openfaas:8080".parse().unwrap();
        let checked = |text| checked_beside(text, Some(&platform));
        assert!(checked("http://gateway.openfaas:8080/oauth/token").is_ok() && checked("https://a.example/").is_ok());
        for other in ["http://gateway.openfaas/", "http://gateway.openfaas:8081/", "http://gateway.openfaas.evil:8080/"]
        {
            assert_eq!(checked(other), Err(EndpointError::NotTls), "{other}");
        }
        assert_eq!(checked("http://u:p@gateway.openfaas:8080/"), Err(EndpointError::Credentials));
    }

    #[test]
    fn endpoints_are_https_or_on_loopback() {
        for good in ["https://a.example/t", "http://127.0.0.1:9000/t", "http://localhost/", "http://[::1]:1/"] {
            assert!(checked_url(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("http://a.example/", EndpointError::NotTls),
            ("http://127.0.0.1.example.com/", EndpointError::NotTls),
            ("ftp://a.example/", EndpointError::NotTls),
            ("javascript:alert(1)", EndpointError::NotAUrl),
            ("/relative", EndpointError::NotAUrl),
            ("", EndpointError::NotAUrl),
            ("https://user:pass@a.example/", EndpointError::Credentials),
            ("https://a.example/#x", EndpointError::Fragment),
        ] {
            assert_eq!(checked_url(bad), Err(why), "{bad}");
        }
    }
}
