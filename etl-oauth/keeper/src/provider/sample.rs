//! Values that stand for those of a customer, for a definition that is tried without a customer.

use super::{Definition, Kind, Overrides, Source, Values, Variable};

/// The redirect URI of a function that there is not (RFC 2606 §3).
const REDIRECT_URI: &str = "https://gateway.example.com/function/etl-oauth/oauth2/callback";

impl Variable {
    /// A value that it may have.
    #[must_use]
    pub fn sample(&self) -> String {
        let host = self.hosts.first().map_or("acme.example.com".into(), |host| host.replace('*', "acme"));
        match self.kind {
            _ if self.is_closed() => self.values[0].clone(),
            Kind::Label | Kind::Labels => "acme".into(),
            Kind::Host => host,
            Kind::Origin => format!("https://{host}"),
            Kind::Segment => "4711".into(),
            Kind::Text => "a text".into(),
        }
    }
}

impl Definition {
    /// A value for each variable of this source; of the configuration's for those that have no default.
    #[must_use]
    pub fn samples(&self, from: Source) -> Values {
        let wanted = self.variables.iter().filter(|(_, variable)| variable.from == from);
        let wanted = wanted.filter(|(_, variable)| from != Source::Configuration || variable.default.is_none());
        wanted.map(|(name, variable)| (name.clone(), variable.sample())).collect()
    }

    /// A configuration that sets what the definition asks for.
    #[must_use]
    pub fn sample_overrides(&self) -> Overrides {
        Overrides {
            variables: self.samples(Source::Configuration),
            redirect_uri: Some(REDIRECT_URI.to_owned()),
            ..Overrides::default()
        }
    }
}
