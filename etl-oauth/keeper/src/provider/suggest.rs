//! What would make a definition better: what it leaves open, and what follows from that.

use super::{Definition, Grant, Provider};

impl Definition {
    /// What it leaves open, with the key and what follows from that. None of it is a mistake: the configuration can say it, or
    /// the fact is not known.
    #[must_use]
    pub fn suggestions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut add = |key, why: &str| found.push((key, why.to_owned()));
        if self.title.is_none() {
            add("title", "pages show the name of the file; say what people call the provider");
        }
        let provider = Provider::new("sample", self.clone(), self.sample_overrides());
        let endpoint = |key| format!("is missing: a function needs the variable {key}, or issuer");
        match &provider {
            Err(_) => add("token_url", &endpoint("token_url")),
            Ok(provider) if !provider.missing().is_empty() => {
                let key = if self.grant == Grant::DeviceCode { "device_url" } else { "authorize_url" };
                add(key, &endpoint(key));
            }
            Ok(_) => {}
        }
        if self.api_url.is_none() {
            add("api_url", "is missing: jobs and /proxy need the variable api_url");
        }
        if self.grant.asks_again() {
            return found;
        }
        if self.rotates.is_none() {
            add("rotates", "is not said and counts as true: with false a lost answer of a renewal costs nothing");
        }
        if self.rotates != Some(false) && self.replay_window.is_none() && !self.previous_until_used {
            add("replay_window", "is not said: a refresh token is sent a second time once, soon, after a lost answer");
        }
        if self.revoke_url.is_none() && self.issuer.is_none() {
            add("revoke_url", "is missing: a revocation deletes the tokens here, and leaves them good at the provider");
        }
        let tells_account = self.userinfo_url.is_some() || self.scope.iter().any(|scope| scope == "openid");
        if !tells_account {
            add(
                "userinfo_url",
                "is missing, and the scope openid too: that another person has authorised is not noticed",
            );
        }
        found
    }
}
