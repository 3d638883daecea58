//! What a token says, and whether that is enough. The signature has been checked by then.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Caller, Identity, Rights};

/// The claims of a token (RFC 7519 §4.1, and those of OpenFaaS IAM).
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: Option<String>,
    #[serde(default)]
    aud: Audience,
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default)]
    function: Function,
    sub: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
    #[default]
    None,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function {
    permissions: Vec<String>,
    /// When it is not empty, it narrows what the permissions allow.
    audience: Vec<String>,
}

impl Claims {
    /// Whether the token is one of `issuer` for `audience`, and alive.
    pub(super) fn check(
        &self,
        issuer: &str,
        audience: &str,
        leeway: SignedDuration,
        now: Timestamp,
    ) -> Result<(), Caller> {
        if self.iss.as_deref() != Some(issuer) {
            return Err(Caller::Wrong("the token is of another issuer"));
        }
        let meant = match &self.aud {
            Audience::One(one) => one == audience,
            Audience::Many(many) => many.iter().any(|one| one == audience),
            Audience::None => false,
        };
        if !meant {
            return Err(Caller::Wrong("the token is for another audience"));
        }
        let (now, leeway) = (now.as_millisecond() as f64 / 1000.0, leeway.as_secs_f64());
        match self.exp {
            Some(exp) if exp.is_finite() && now < exp + leeway => {}
            Some(_) => return Err(Caller::Wrong("the token has expired")),
            None => return Err(Caller::Wrong("the token never expires")),
        }
        if self.nbf.is_some_and(|nbf| now + leeway < nbf) {
            return Err(Caller::Wrong("the token is not valid yet"));
        }
        Ok(())
    }

    /// The caller that the token identifies, and the accounts that its claim allows: every account without the claim.
    pub(super) fn caller(&self, claim: &str) -> Result<Identity, Caller> {
        let wrong = Caller::Wrong("the claim of the caller's accounts is no list such as `google/*,slack/ada`");
        let rights = match self.rest.get(claim) {
            None | Some(Value::Null) => Rights::default(),
            Some(Value::String(text)) => Rights::parse(text).ok_or(wrong)?,
            Some(_) => return Err(wrong),
        };
        Ok(Identity::new(self.sub.as_deref().unwrap_or_default(), rights))
    }

    /// Whether it permits a call of `function`, which is `namespace:name`.
    pub(super) fn permits(&self, function: &str) -> bool {
        let allows = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, function));
        allows(&self.function.permissions) && (self.function.audience.is_empty() || allows(&self.function.audience))
    }
}

/// Whether `pattern`, in which `*` stands for any text, is all of `name`.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_all_of_the_name() {
        for pattern in ["dev:env", "*", "dev:*", "*:env", "dev:e*", "*v:e*v", "d*e*v", "dev:env*", "**"] {
            assert!(matches(pattern, "dev:env"), "{pattern}");
        }
        for pattern in ["", "dev:en", "v:env", "env", "dev:env2", "mydev:env", "DEV:ENV", "prod:*", "*:en", "dev:env*v"]
        {
            assert!(!matches(pattern, "dev:env"), "{pattern}");
        }
    }
}
