//! The names under which a server answers. A page of any site can make a browser send requests to this machine under a
//! name of its own (DNS rebinding); such a request carries that name in `Host`, and is refused.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Version, header, uri::Authority};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};

/// The hosts that a server accepts in `Host`.
#[derive(Clone, Debug)]
pub(crate) struct AllowedHosts {
    /// Whether any IP address is accepted: a server that listens beyond loopback has addresses it does not know of.
    addresses: bool,
    names: Vec<String>,
}

impl AllowedHosts {
    /// Loopback hosts, and `names`; any address, too, where `listening` is not a loopback address.
    pub(crate) fn new(listening: IpAddr, names: &[String]) -> Self {
        let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { addresses: !listening.to_canonical().is_loopback(), names }
    }

    /// Refuses requests for other hosts with 421, before any route sees them.
    pub(crate) fn guard(self, router: Router) -> Router {
        router.layer(from_fn_with_state(Arc::new(self), check))
    }

    fn allow(&self, authority: &str) -> bool {
        // A name may end in the dot of the root zone.
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return self.addresses || address.to_canonical().is_loopback();
        }
        host == "localhost" || host.ends_with(".localhost") || self.names.contains(&host)
    }
}

async fn check(State(allowed): State<Arc<AllowedHosts>>, request: Request<Body>, next: Next) -> Response {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    // An absolute target names the host, whatever the field says (RFC 9112 §3.2.2).
    let target = request.uri().authority().map(Authority::as_str);
    let host = match (target, hosts.next(), hosts.next()) {
        (_, Some(_), Some(_)) => {
            return (StatusCode::BAD_REQUEST, "400 Bad Request: too many Host headers").into_response();
        }
        (Some(target), ..) => Some(target),
        (None, Some(host), None) => Some(host.to_str().unwrap_or_default()),
        // HTTP/1.0, which browsers do not speak, need not name a host.
        (None, None, _) if request.version() == Version::HTTP_10 => None,
        (None, None, _) => {
            return (StatusCode::BAD_REQUEST, "400 Bad Request: missing required Host header").into_response();
        }
    };
    if host.is_none_or(|host| allowed.allow(host)) {
        return next.run(request).await;
    }
    let message = "421 Misdirected Request: this server answers to 127.0.0.1, [::1] and localhost only, so that no web \
                   site can reach it through your browser. Start it with --allowed-host NAME to add a name.\n";
    (StatusCode::MISDIRECTED_REQUEST, message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s20_hosts_of_this_machine_are_allowed_and_no_others() {
        let loopback = AllowedHosts::new([127, 0, 0, 1].into(), &["Tunnel.Example".to_owned()]);
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "a.localhost",
            "localhost.",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:80",
            "tunnel.example",
        ] {
            assert!(loopback.allow(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:8080",
            "xlocalhost",
            "10.0.0.1",
            "[::2]",
            "localhost@evil.example",
            "",
            "a b",
        ] {
            assert!(!loopback.allow(host), "{host}");
        }
    }

    #[test]
    fn s20_a_server_on_every_address_answers_to_addresses_and_to_no_names() {
        let everywhere = AllowedHosts::new([0, 0, 0, 0].into(), &[]);
        assert!(everywhere.allow("192.168.1.7:8080") && everywhere.allow("localhost"));
        assert!(!everywhere.allow("evil.example"));
    }
}
