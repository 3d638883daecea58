//! Variables of URLs, parameters and headers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::checked_url;

/// Values of variables, by name.
pub type Values = BTreeMap<String, String>;

/// A part of a URL, a parameter or a header that differs from one customer of the provider to the next: `{name}` stands
/// where its value goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Variable {
    /// What it is, for the person who sets it.
    pub about: Option<String>,
    /// What a value may be.
    pub kind: Kind,
    /// Where its value comes from.
    pub from: Source,
    /// The field of the token answer or of an entry of the lookup (a JSON pointer, or a path with dots), or the parameter of
    /// the redirect, where that is not its own name; the name of the secret.
    pub at: Option<String>,
    /// Its value as long as no other is known.
    pub default: Option<String>,
    /// The hosts that a `host` or an `origin` may name: `example.com` is that one, `*.example.com` all below it.
    pub hosts: Vec<String>,
    /// All the values that there are: regions, data centres, top-level domains. Such a variable may stand anywhere in a host,
    /// and its values may have dots, or be empty.
    pub values: Vec<String>,
}

/// What a variable's value may be. Nothing else is ever put into a URL, so that no value leads to another place than the
/// one that the definition means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One label of a host name: letters, digits and hyphens. It stands before a fixed domain, or in a path.
    #[default]
    Label,
    /// One label of a host name or several, with dots between them, before a fixed domain.
    Labels,
    /// A host name; it stands for the whole host.
    Host,
    /// `https://` and a host, or http on a loopback host; it stands at the beginning of a URL. It may have a path, unless the
    /// redirect brings it, and a slash at the end, which is taken off.
    Origin,
    /// One segment of a path: a tenant, a realm, an id.
    Segment,
    /// Any text, for parameters and headers alone.
    Text,
}

/// Where a variable's value comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The environment variable `provider_NAME`.
    #[default]
    Configuration,
    /// The token answer; it is kept with the tokens.
    Answer,
    /// The redirect that brings a person back; it is kept with the tokens.
    Redirect,
    /// The answer at `lookup_url`, else at `userinfo_url`, which is asked for with a new token; it is kept with the tokens.
    /// `provider_NAME` chooses where there are several.
    Lookup,
    /// The mounted secret whose name `at` says, which begins with `api-`; for parameters and headers of requests alone.
    Secret,
}

impl Source {
    /// Whether the configuration may have a word on it: `provider_NAME`.
    #[must_use]
    pub fn is_configurable(self) -> bool {
        matches!(self, Self::Configuration | Self::Lookup)
    }
}

impl Variable {
    /// The field or parameter that holds it.
    #[must_use]
    pub fn at<'a>(&'a self, name: &'a str) -> &'a str {
        self.at.as_deref().unwrap_or(name)
    }

    /// Checks a value.
    ///
    /// # Errors
    /// What would be right, completing "must be".
    pub fn check(&self, value: &str) -> Result<(), String> {
        self.accept(value).map(drop)
    }

    /// Whether the definition lists all its values: none of them leads to a place that the definition does not mean.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.values.is_empty()
    }

    /// Checks a value, and gives it as it is used: the slash at the end of an origin is taken off. An origin may have a path,
    /// below which the API is; one that the redirect brings may not, because anyone can write an address.
    ///
    /// # Errors
    /// What would be right, completing "must be".
    pub fn accept(&self, value: &str) -> Result<String, String> {
        if self.kind == Kind::Origin {
            return self.accept_origin(value).ok_or_else(|| self.wanted());
        }
        let good = match self.kind {
            _ if self.is_closed() => self.values.iter().any(|known| known == value),
            Kind::Label => is_label(value),
            Kind::Labels => value.len() <= 190 && value.split('.').all(is_label),
            Kind::Host => is_host(value) && self.allows(value),
            Kind::Segment => is_segment(value),
            Kind::Text => !value.is_empty() && !value.chars().any(char::is_control),
            Kind::Origin => false,
        };
        if good { Ok(value.to_owned()) } else { Err(self.wanted()) }
    }

    fn accept_origin(&self, value: &str) -> Option<String> {
        let base = value.strip_suffix('/').unwrap_or(value);
        let url = checked_url(base).ok()?;
        // As it is written, not as a parser reads it: nothing may be normalised away.
        let path = base.split_once("://")?.1.split_once('/').map(|(_, path)| path);
        let path_ok = url.path().strip_prefix('/') == Some(path.unwrap_or_default())
            && path.is_none_or(|path| self.from != Source::Redirect && path.split('/').all(is_segment));
        let sound = path_ok && url.query().is_none() && url.host_str().is_some_and(|host| self.allows(host));
        sound.then(|| base.to_owned())
    }

    fn allows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.hosts.is_empty()
            || self.hosts.iter().any(|allowed| match allowed.strip_prefix('*') {
                Some(below) => host.len() > below.len() && host.ends_with(below),
                None => host == *allowed,
            })
    }

    fn wanted(&self) -> String {
        if self.is_closed() {
            return format!("one of {}", self.values.join(", "));
        }
        let what = match self.kind {
            Kind::Label => "one part of a host name, such as acme: letters, digits and hyphens",
            Kind::Labels => "one part of a host name or several with dots between them, such as acme or acme.eu",
            Kind::Host => "a host name without scheme or path",
            Kind::Origin if self.from == Source::Redirect => "https:// and a host, without a path",
            Kind::Origin => "https:// and a host, with a plain path at most",
            Kind::Segment => "letters, digits and . _ ~ - alone: it becomes one part of a path",
            Kind::Text => "a text without control characters",
        };
        if self.hosts.is_empty() { what.into() } else { format!("{what}, and be {}", self.hosts.join(" or ")) }
    }
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

pub(super) fn is_host(text: &str) -> bool {
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_label)
}

fn is_segment(text: &str) -> bool {
    (1..=200).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
        && !matches!(text, "." | "..")
}

/// The names of the placeholders of a text. Braces around anything else than a name are text.
pub(crate) fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).filter_map(|piece| if let Piece::Name(name) = piece { Some(name) } else { None })
}

/// Puts values in the places of a text's placeholders; `None` when there is none for one of them.
pub(crate) fn fill<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    pieces(text).try_fold(String::with_capacity(text.len()), |filled, piece| {
        Some(
            filled
                + match piece {
                    Piece::Text(text) => text,
                    Piece::Name(name) => value(name)?,
                },
        )
    })
}

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn pieces(mut text: &str) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        if let Some(name) = name_at(text) {
            text = &text[name.len() + 2..];
            return Some(Piece::Name(name));
        }
        let end = text.char_indices().skip(1).find(|(at, _)| name_at(&text[*at..]).is_some());
        let (piece, rest) = text.split_at(end.map_or(text.len(), |(at, _)| at));
        text = rest;
        Some(Piece::Text(piece))
    })
}

/// The name in the braces that the text begins with.
fn name_at(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('{')?.split_once('}')?;
    is_name(name).then_some(name)
}

pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(kind: Kind, hosts: &[&str]) -> Variable {
        Variable { kind, hosts: hosts.iter().map(ToString::to_string).collect(), ..Variable::default() }
    }

    #[test]
    fn no_value_leads_to_another_host() {
        let label = variable(Kind::Label, &[]);
        assert!(["acme", "ACME-1", "a"].iter().all(|value| label.check(value).is_ok()));
        let evil = ["", "-a", "a-", "a.b", "evil.com/", "a/b", "a@b", "a#", "a?", "a:1", "a%2e", "ä", "a b", "a\\b"];
        assert!(evil.iter().all(|value| label.check(value).is_err()));
        let host = variable(Kind::Host, &["*.p.example", "q.example"]);
        assert!(["a.p.example", "a.b.P.example", "q.example"].iter().all(|value| host.check(value).is_ok()));
        let evil = [
            "p.example",
            "evil.com",
            "xp.example",
            "a.p.example.evil.com",
            "a.p.example/",
            "a.p.example:1",
            ".p.example",
        ];
        for value in evil {
            assert!(host.check(value).is_err(), "{value}");
        }
        let origin = variable(Kind::Origin, &["*.p.example"]);
        assert!(origin.check("https://eu1.p.example").is_ok() && origin.check("https://eu1.p.example:8443").is_ok());
        assert_eq!(origin.accept("https://eu1.p.example/ctx/v1/").unwrap(), "https://eu1.p.example/ctx/v1");
        let brought = Variable { from: Source::Redirect, ..origin.clone() };
        assert!(brought.check("https://eu1.p.example/").is_ok() && brought.check("https://eu1.p.example/x").is_err());
        for value in [
            "http://eu1.p.example",
            "https://eu1.p.example//",
            "https://eu1.p.example/../x",
            "https://eu1.p.example/a%2fb",
            "https://eu1.p.example?x",
            "https://eu1.p.example#x",
            "https://evil.com#.p.example",
            "https://u@eu1.p.example",
            "https://evil.com\\.p.example",
            "//eu1.p.example",
            "eu1.p.example",
        ] {
            assert!(origin.check(value).is_err(), "{value}");
        }
        let labels = variable(Kind::Labels, &[]);
        assert!(["acme", "acme.eu", "a.b.c"].iter().all(|value| labels.check(value).is_ok()));
        assert!(["", ".", "a.", ".a", "a..b", "a/b", "a@b", "a.b#", "a.b:1"].iter().all(|v| labels.check(v).is_err()));
        let closed = Variable { values: ["com", "com.au", ""].map(str::to_owned).into(), ..Variable::default() };
        assert!(["com", "com.au", ""].iter().all(|value| closed.check(value).is_ok()));
        assert_eq!(closed.check("evil.com").unwrap_err(), "one of com, com.au, ");
        let segment = variable(Kind::Segment, &[]);
        assert!(
            ["common", "72f988bf-86f1-41af-91ab-2d7cd011db47", "a.example.com"]
                .iter()
                .all(|v| segment.check(v).is_ok())
        );
        assert!(["", ".", "..", "a/b", "a?b", "a%2fb", "a b", "a#b"].iter().all(|value| segment.check(value).is_err()));
    }

    #[test]
    fn placeholders_are_names_in_braces_and_other_braces_are_text() {
        let value = |name: &str| (name == "a_1").then_some("x");
        assert_eq!(fill("{a_1}.b{a_1}", value).unwrap(), "x.bx");
        assert_eq!(fill(r#"{"a": "{a_1}"} {} {A} { é"#, value).unwrap(), r#"{"a": "x"} {} {A} { é"#);
        assert_eq!(fill("{b}", value), None);
        assert_eq!(placeholders("{a}{b_c}/{D}").collect::<Vec<_>>(), ["a", "b_c"]);
    }
}
