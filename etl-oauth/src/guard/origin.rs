use http::{HeaderMap, header};
use url::Url;

/// From where a request was sent, as far as it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// By a browser, from a page of this origin or from one that it does not name.
    Own,
    /// By a browser, from a page of another origin.
    Other,
    /// By what is no browser. A browser's POST has named its origin, if only as `null`, for many years (Fetch, "append a
    /// request `Origin` header"), so that a forged one is not taken for this.
    Machine,
}

impl Site {
    /// Reads the headers that no page can set or leave out (`Sec-Fetch-Site`, `Origin`), for a function at `public_url`.
    #[must_use]
    pub fn of(headers: &HeaderMap, public_url: &Url) -> Self {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let own = || public_url.origin().ascii_serialization();
        // Pages of ours ask for no referrer, and so their forms say `Origin: null`.
        let foreign = text("origin").is_some_and(|origin| origin != "null" && origin != own());
        if foreign || text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Self::Other;
        }
        let wants_html = headers
            .get_all(header::ACCEPT)
            .iter()
            .any(|value| value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("text/html")));
        let signs = ["origin", "sec-fetch-site", "sec-fetch-mode", "cookie", "referer"];
        if wants_html || signs.iter().any(|name| headers.contains_key(*name)) { Self::Own } else { Self::Machine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_says_where_it_comes_from_and_a_machine_says_nothing() {
        let url = "https://gateway.example/function/f".parse().unwrap();
        let of = |headers: &[(&'static str, &str)]| {
            Site::of(&headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect(), &url)
        };
        for (headers, site) in [
            (&[][..], Site::Machine),
            (&[("accept", "application/json"), ("user-agent", "curl/8")], Site::Machine),
            (&[("accept", "text/html,*/*")], Site::Own),
            (&[("cookie", "a=b")], Site::Own),
            (&[("origin", "null")], Site::Own),
            (&[("origin", "https://gateway.example")], Site::Own),
            (&[("sec-fetch-site", "same-origin"), ("origin", "null")], Site::Own),
            (&[("sec-fetch-site", "none")], Site::Own),
            (&[("origin", "https://gateway.example.evil.example")], Site::Other),
            (&[("origin", "http://gateway.example")], Site::Other),
            (&[("origin", "https://gateway.example:8443")], Site::Other),
            (&[("sec-fetch-site", "cross-site"), ("origin", "null")], Site::Other),
            (&[("sec-fetch-site", "same-site")], Site::Other),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")], Site::Other),
            (&[("sec-fetch-site", "anything new")], Site::Other),
        ] {
            assert_eq!(of(headers), site, "{headers:?}");
        }
    }
}
