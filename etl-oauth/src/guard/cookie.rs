use std::time::Duration;

use ::cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, header};
use url::Url;

/// The cookies of one request, and how this function's own are set.
///
/// All functions of a gateway share one origin, so a cookie here only ties a browser to something sealed: its value alone
/// opens nothing.
#[derive(Clone, Debug)]
pub struct CookieJar {
    path: String,
    secure: bool,
}

impl CookieJar {
    /// Cookies for the function at `public_url`: its path, and `Secure` where it is served over https.
    #[must_use]
    pub fn new(public_url: &Url) -> Self {
        let path = public_url.path().trim_end_matches('/');
        Self { path: if path.is_empty() { "/".into() } else { path.into() }, secure: public_url.scheme() == "https" }
    }

    /// The name with the prefix that a browser enforces: `__Secure-` on https. (`__Host-` would need `Path=/`, which sends
    /// the cookie to every other function.)
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        if self.secure { format!("__Secure-{name}") } else { name.to_owned() }
    }

    /// The value of a cookie. `None` when it is missing, or there twice: a sibling function may have put one beside ours.
    #[must_use]
    pub fn get(&self, headers: &HeaderMap, name: &str) -> Option<String> {
        let name = self.name(name);
        let mut found = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| Cookie::split_parse(value).filter_map(Result::ok))
            .filter(|cookie| cookie.name() == name);
        let cookie = found.next()?;
        found.next().is_none().then(|| cookie.value().to_owned())
    }

    /// The header that sets a cookie for `lifetime`; zero takes it away.
    #[must_use]
    pub fn set(&self, name: &str, value: &str, lifetime: Duration) -> Option<HeaderValue> {
        let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        let cookie = Cookie::build((self.name(name), value.to_owned()))
            .path(self.path.clone())
            .http_only(true)
            .secure(self.secure)
            // Lax, not Strict: the callback is a navigation from the provider's site.
            .same_site(SameSite::Lax)
            .max_age(::cookie::time::Duration::seconds(seconds));
        HeaderValue::try_from(cookie.build().to_string()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(url: &str) -> CookieJar {
        CookieJar::new(&url.parse().unwrap())
    }

    #[test]
    fn a_cookie_is_tied_to_the_functions_path_and_out_of_reach_of_scripts() {
        let set = |url| jar(url).set("n", "v", Duration::from_secs(600)).unwrap().to_str().unwrap().to_owned();
        let set = (set("https://g.example/function/f"), set("http://127.0.0.1:8080/function/f/"));
        assert_eq!(set.0, "__Secure-n=v; HttpOnly; SameSite=Lax; Secure; Path=/function/f; Max-Age=600");
        assert_eq!(set.1, "n=v; HttpOnly; SameSite=Lax; Path=/function/f; Max-Age=600");
    }

    #[test]
    fn a_cookie_that_is_there_twice_is_not_believed() {
        let headers = |value: &'static str| HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(value))]);
        let jar = jar("http://127.0.0.1/function/f");
        assert_eq!(jar.get(&headers("a=1; n=v; b=2"), "n").as_deref(), Some("v"));
        assert_eq!(jar.get(&headers("n=forged; n=v"), "n"), None);
        assert_eq!(jar.get(&headers("nn=v"), "n"), None);
    }
}
