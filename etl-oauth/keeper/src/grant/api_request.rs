//! What a definition adds to the requests of a job to the API.

use http::HeaderMap;

use super::{
    Client,
    template_vars::TemplateVars,
    token_request::{filled, filled_texts},
};
use crate::provider::Provider;

/// What is added to a request to the API.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApiExtras {
    /// Headers; those that may hold secrets are marked so that nothing prints them.
    pub(crate) headers: HeaderMap,
    /// Parameters of the query.
    pub(crate) params: Vec<(String, String)>,
}

/// What the definition adds for the account whose values `provider` has.
pub(crate) fn api_extras(provider: &Provider, client: &Client) -> ApiExtras {
    let vars = TemplateVars::new(provider, client, &[]);
    ApiExtras {
        headers: filled(&provider.api.headers, &vars),
        params: filled_texts(&provider.api.params, &vars).collect(),
    }
}
