use std::collections::BTreeMap;

use http::Method;
use percent_encoding::percent_decode_str;
use token_keeper::store::check_account;

/// The part of the provider's API that callers may use: the variable `proxy_allow`.
///
/// ```
/// use etl_oauth::guard::{Allow, ApiPath};
///
/// let allow = Allow::parse("token, GET /v2/*")?;
/// let allows = |path| ApiPath::read(path).is_some_and(|path| allow.allows(&http::Method::GET, &path));
/// assert!(allow.token() && allows("v2/sales"));
/// assert!(!allows("v3/sales") && !allows("v2/../v3/sales") && !allows("v2/%2e%2e/v3"));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    token: bool,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    method: Option<Method>,
    path: String,
    /// Whatever comes after `path` is allowed, too.
    prefix: bool,
}

/// A path of the API in a form that every server reads alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPath(Vec<String>);

impl Allow {
    /// Reads a list with commas: `token` opens `/token`, `METHOD /path` opens one path of `/proxy`, with `*` at its end all
    /// that begin so; `*` is any method.
    ///
    /// # Errors
    /// What is wrong, to stand after the variable's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut allow = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry == "token" {
                allow.token = true;
                continue;
            }
            let wrong = || format!("has the entry {entry:?}: entries are `token` or `METHOD /path`, as in `GET /v2/*`");
            let (method, path) = entry.split_once(char::is_whitespace).ok_or_else(wrong)?;
            let method = match method {
                "*" => None,
                method if method.bytes().all(|byte| byte.is_ascii_uppercase()) => {
                    Some(Method::from_bytes(method.as_bytes()).map_err(|_| wrong())?)
                }
                _ => return Err(wrong()),
            };
            let path = path.trim();
            let (path, prefix) = path.strip_suffix('*').map_or((path, false), |path| (path, true));
            let whole = path.strip_prefix('/').and_then(ApiPath::read).ok_or_else(wrong)?;
            if path.contains('*') {
                return Err(wrong());
            }
            allow.rules.push(Rule { method, path: whole.to_string(), prefix });
        }
        Ok(allow)
    }

    /// Reads the same list for several connections: an entry may begin with the name of one and a colon
    /// (`google: GET /calendar/*`), and means `implied` without. Gives what each connection opens.
    ///
    /// # Errors
    /// As [`Allow::parse`], and an entry that names no connection.
    pub fn by_connection(text: &str, names: &[&str], implied: Option<&str>) -> Result<BTreeMap<String, Self>, String> {
        let mut all: BTreeMap<String, Self> = BTreeMap::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let named = entry.split_once(':').filter(|(name, _)| check_account(name.trim()).is_ok());
            let (name, rest) = named.map_or((implied, entry), |(name, rest)| (Some(name.trim()), rest));
            let known = || format!("begins with one of {}", names.join(", "));
            let Some(name) = name else {
                return Err(format!("has the entry {entry:?} without a connection: an entry {} and a colon", known()));
            };
            if !names.contains(&name) {
                return Err(format!("has the entry {entry:?} of an unknown connection: an entry {}", known()));
            }
            let allow = Self::parse(rest)?;
            let of = all.entry(name.to_owned()).or_default();
            of.token |= allow.token;
            of.rules.extend(allow.rules);
        }
        Ok(all)
    }

    /// Whether `/token` is open.
    #[must_use]
    pub fn token(&self) -> bool {
        self.token
    }

    /// Whether anything of `/proxy` is open.
    #[must_use]
    pub fn proxy(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether callers may use `method` on `path`.
    #[must_use]
    pub fn allows(&self, method: &Method, path: &ApiPath) -> bool {
        let path = path.to_string();
        self.rules.iter().any(|rule| {
            rule.method.as_ref().is_none_or(|allowed| allowed == method)
                && if rule.prefix { path.starts_with(&rule.path) } else { path == rule.path }
        })
    }
}

impl ApiPath {
    /// Reads a path without its first slash, decoding it once. `None` where servers could differ over what it is: dot
    /// segments, empty segments, separators that are encoded or another system's, parameters (`;`), what would decode
    /// once more, control characters, and what is no UTF-8.
    #[must_use]
    pub fn read(path: &str) -> Option<Self> {
        let raw: Vec<&str> = path.split('/').collect();
        let last = raw.len() - 1;
        let segments = raw.iter().enumerate().map(|(index, segment)| {
            let segment = percent_decode_str(segment).decode_utf8().ok()?;
            let twice = percent_decode_str(&segment).count() != segment.len();
            let odd = |c: char| matches!(c, '/' | '\\' | ';' | '?' | '#') || c.is_control();
            let refused = matches!(&*segment, "." | "..") || segment.contains(odd) || twice;
            (!refused && (index == last || !segment.is_empty())).then(|| segment.into_owned())
        });
        segments.collect::<Option<_>>().map(Self)
    }

    /// Its segments, decoded.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.0
    }
}

impl std::fmt::Display for ApiPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|segment| write!(f, "/{segment}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(allow: &Allow, method: &str, path: &str) -> bool {
        ApiPath::read(path).is_some_and(|path| allow.allows(&method.parse().unwrap(), &path))
    }

    #[test]
    fn a_rule_names_a_method_and_a_path_or_its_beginning() {
        let allow = Allow::parse("GET /v2/*, POST /v2/sales,* /any").unwrap();
        assert!(!allow.token() && allow.proxy());
        for (method, path, wanted) in [
            ("GET", "v2/sales", true),
            ("GET", "v2/", true),
            ("GET", "v2", false),
            ("GET", "v20/sales", false),
            ("GET", "v2/caf%C3%A9 x", true),
            ("POST", "v2/sales", true),
            ("POST", "v2/sales/1", false),
            ("HEAD", "v2/sales", false),
            ("DELETE", "any", true),
            ("get", "v2/sales", false),
        ] {
            assert_eq!(allows(&allow, method, path), wanted, "{method} {path}");
        }
        assert!(!Allow::parse("").unwrap().proxy());
        for wrong in ["v2/*", "GET", "GET v2", "get /v2", "GET /a*/b", "GET /../x", "GET,/v2", "tokens"] {
            assert!(Allow::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_entry_names_its_connection_or_means_the_implied_one() {
        let text = "google: GET /calendar/*, token, slack:POST /chat:post";
        let all = Allow::by_connection(text, &["default", "google", "slack"], Some("default")).unwrap();
        assert!(all["default"].token() && !all["default"].proxy() && !all["google"].token());
        assert!(allows(&all["google"], "GET", "calendar/v3") && !allows(&all["slack"], "GET", "calendar/v3"));
        assert!(allows(&all["slack"], "POST", "chat:post"));
        let wrong = |text, implied| Allow::by_connection(text, &["google", "slack"], implied).unwrap_err();
        assert!(wrong("token", None).contains("without a connection: an entry begins with one of google, slack"));
        assert!(wrong("slak: token", None).contains("of an unknown connection"));
        assert!(wrong("slack: GET v2", None).contains("entries are `token` or `METHOD /path`"));
        assert_eq!(Allow::by_connection("", &["google", "slack"], None).unwrap().len(), 0);
    }

    #[test]
    fn what_servers_could_read_differently_is_refused() {
        let allow = Allow::parse("GET /v2/*").unwrap();
        for trick in [
            "v2/../admin",
            "v2/..",
            "v2/./x",
            "v2/%2e%2e/admin",
            "v2/%2E./admin",
            "v2/..%2fadmin",
            "v2%2fsales",
            "v2/%5c..%5cadmin",
            "v2/..\\admin",
            "v2//admin",
            "//v2/sales",
            "v2/..;/admin",
            "v2/a;b",
            "v2/%3b",
            "v2/%00",
            "v2/%0d%0aHost:x",
            "v2/%252e%252e/admin",
            "v2/%25%32%65",
            "v2/%ff",
            "v2/a%3Fb",
            "v2/%23",
        ] {
            assert!(!allows(&allow, "GET", trick), "{trick}");
        }
        assert!(allows(&allow, "GET", "v2/100%25"), "a percent sign alone is one");
    }
}
