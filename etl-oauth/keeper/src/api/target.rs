//! Where a request goes.

use url::Url;

/// The target of a request; it never leads to another origin than the API's.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// Below the base URL.
    Path { path: String, query: Vec<(String, String)> },
    /// An address that the API gave in its answer to this path.
    Url { url: Url, path: String },
}

impl Target {
    /// A path below the API's base URL, which may carry a query.
    pub(super) fn below_base(path: &str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self::Path { path: path.to_owned(), query }
    }

    /// The path, for messages.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Path { path, .. } | Self::Url { path, .. } => path,
        }
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        match self {
            Self::Path { query, .. } => query.push((name.to_owned(), value.to_owned())),
            Self::Url { url, .. } => drop(url.query_pairs_mut().append_pair(name, value)),
        }
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        if let Self::Path { query, .. } = self {
            query.retain(|(other, _)| other != name);
        }
        self.add(name, value);
    }

    pub(super) fn url(&self, base: &Url) -> Url {
        match self {
            Self::Path { path, query } => {
                let mut url = base.clone();
                // Only path and query are ever set, so the origin is the configured one whatever the path says.
                url.set_path(&format!("{}/{}", base.path().trim_end_matches('/'), path.trim_start_matches('/')));
                if !query.is_empty() {
                    url.query_pairs_mut().extend_pairs(query);
                }
                url
            }
            Self::Url { url, .. } => url.clone(),
        }
    }
}
