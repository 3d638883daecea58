//! The redirect that brings a person back (RFC 6749 §4.1.2).

use url::form_urlencoded;

use super::ExchangeError;
use crate::{
    grant::judge_redirect_error,
    provider::{Provider, Source, Values},
    token::Secret,
};

/// What the provider sends along. All else is passed over.
#[derive(Debug, Default)]
pub(super) struct Callback {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    iss: Option<String>,
    kept: Values,
}

/// The query of a URL, or what is one already.
pub(super) fn query(callback: &str) -> &str {
    let query = callback.split_once('?').map_or(callback, |(_, query)| query);
    query.split('#').next().unwrap_or_default()
}

impl Callback {
    /// Reads a query. A parameter that is there twice spoils it (RFC 6749 §3.1); an empty one is none.
    pub(super) fn read(provider: &Provider, query: &str) -> Result<Self, ExchangeError> {
        let mut callback = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let kept = provider.variables.iter().find(|(key, it)| it.from == Source::Redirect && it.at(key) == name);
            let twice = if let Some((key, _)) = kept {
                callback.kept.insert(key.clone(), value.into_owned()).is_some()
            } else {
                let field = match &*name {
                    name if name == provider.callback.code => &mut callback.code,
                    name if name == provider.callback.state => &mut callback.state,
                    "error" => &mut callback.error,
                    "iss" => &mut callback.iss,
                    _ => continue,
                };
                let twice = field.is_some();
                *field = Some(value.into_owned()).filter(|value| !value.is_empty());
                twice
            };
            if twice {
                return Err(ExchangeError::Callback("it holds a parameter twice"));
            }
        }
        Ok(callback)
    }

    /// Checks that it answers this very authorisation: `state` (RFC 6749 §10.12), `iss` (RFC 9207 §2.4), and the values that
    /// become parts of addresses.
    pub(super) fn check(&self, provider: &Provider, state: &str) -> Result<(), ExchangeError> {
        let theirs = self.state.as_deref().unwrap_or_default();
        if !Secret::new(theirs).same(&Secret::new(state)) {
            return Err(ExchangeError::Callback("its state is not that of this session"));
        }
        match (&provider.issuer, &self.iss) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                return Err(ExchangeError::Callback("it comes from another issuer"));
            }
            (_, None) if provider.iss_required => {
                return Err(ExchangeError::Callback("it does not say which issuer it comes from"));
            }
            _ => {}
        }
        let sound = |(name, value): (&String, &String)| {
            provider.variables.get(name).is_some_and(|variable| variable.check(value).is_ok())
        };
        if self.kept.iter().all(sound) {
            Ok(())
        } else {
            Err(ExchangeError::Callback("it holds a value that the provider does not send"))
        }
    }

    pub(super) fn code(&self) -> Result<&str, ExchangeError> {
        match (&self.code, &self.error) {
            (Some(code), None) => Ok(code),
            (None, Some(error)) => Err(ExchangeError::Refused(judge_redirect_error(error))),
            _ => Err(ExchangeError::Callback("it holds neither a code nor an error, or both")),
        }
    }

    pub(super) fn kept(&self) -> &Values {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Definition, Overrides};

    fn provider(more: &str) -> Provider {
        let text = format!("token_url = 'https://p.example/t'\nauthorize_url = 'https://p.example/a'\n{more}");
        Provider::new("acme", Definition::read("acme.toml", &text).unwrap(), Overrides::default()).unwrap()
    }

    fn read(provider: &Provider, url: &str) -> Result<String, String> {
        let callback = Callback::read(provider, query(url)).map_err(|err| err.to_string())?;
        callback.check(provider, "s").map_err(|err| err.to_string())?;
        callback.code().map(str::to_owned).map_err(|err| err.to_string())
    }

    #[test]
    fn a_redirect_is_taken_where_it_answers_this_authorisation_and_nothing_of_it_is_shown() {
        let it = provider("issuer = 'https://p.example'");
        for good in [
            "https://me.example/cb?code=c&state=s#x",
            "code=c&state=s&iss=https%3A%2F%2Fp.example",
            "code=c&state=s&x=y&x=z",
        ] {
            assert_eq!(read(&it, good).as_deref(), Ok("c"), "{good}");
        }
        for (bad, why) in [
            ("code=marker&state=other", "state"),
            ("code=marker", "state"),
            ("code=marker&code=d&state=s", "twice"),
            ("code=marker&state=s&iss=https%3A%2F%2Fevil.example", "issuer"),
            ("code=marker&state=s&error=x", "both"),
            ("state=s", "neither"),
        ] {
            let err = read(&it, bad).unwrap_err();
            assert!(err.contains(why) && !err.contains("marker"), "{bad}: {err}");
        }
        assert!(
            read(&it, "error=access_denied&state=s&error_description=marker").unwrap_err().ends_with("(access_denied)")
        );
    }

    #[test]
    fn names_and_values_are_those_of_the_definition() {
        let it = provider(
            "callback = { code = 'auth_code', state = 'st' }\nvariables.realm = { from = 'redirect', kind = 'segment', at = 'realmId' }",
        );
        assert_eq!(read(&it, "auth_code=c&st=s&code=x&realmId=42").as_deref(), Ok("c"));
        assert!(read(&it, "auth_code=c&st=s&realmId=a%2Fb").is_err());
        assert!(read(&it, "auth_code=c&st=s&realmId=1&realmId=2").is_err());
    }
}
