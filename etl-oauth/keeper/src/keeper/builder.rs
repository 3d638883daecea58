//! What a keeper is made of.

use std::{sync::Arc, time::Duration};

use super::{BuildError, Inner, TokenKeeper, authorization::Sessions};
use crate::{
    grant::{Authority, Client, Credentials, HttpClient},
    provider::{Definition, Overrides, Provider},
    renewal::{Announcer, Clock, Keepers, Parts, Policy},
    secrets::Secrets,
    store::Store,
    token::Secret,
};

/// What a [`TokenKeeper`] is made of.
#[derive(Debug)]
#[must_use = "a builder makes nothing until it is built"]
pub struct Builder {
    name: String,
    store: Store,
    definition: Option<Definition>,
    overrides: Overrides,
    secrets: Option<Secrets>,
    client: Option<Client>,
    clock: Clock,
    token_timeout: Duration,
}

impl Builder {
    pub(super) fn new(name: &str, store: Store) -> Self {
        Self {
            name: name.to_owned(),
            store,
            definition: None,
            overrides: Overrides::default(),
            secrets: None,
            client: None,
            clock: Clock::system(),
            token_timeout: Duration::from_secs(10),
        }
    }

    /// A provider of your own, which [`Definition::read`] takes from TOML.
    pub fn definition(self, definition: Definition) -> Self {
        Self { definition: Some(definition), ..self }
    }

    /// A server that tells its endpoints itself (RFC 8414, OpenID Connect Discovery), by its issuer identifier.
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.overrides.issuer = Some(issuer.to_owned());
        self
    }

    /// Where the provider sends people back to (RFC 6749 §3.1.2), as it is registered there, to the letter.
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        self.overrides.redirect_uri = Some(uri.to_owned());
        self
    }

    /// The scopes to ask for, in place of the definition's.
    pub fn scope(mut self, scope: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.overrides.scope = Some(scope.into_iter().map(Into::into).collect());
        self
    }

    /// The value of one of the definition's variables: a subdomain, a tenant.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.overrides.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The base URL of the API, in place of the definition's.
    pub fn api_url(mut self, url: url::Url) -> Self {
        self.overrides.api_url = Some(url);
        self
    }

    /// All else that may differ from the definition. What was set before is replaced.
    pub fn overrides(self, overrides: Overrides) -> Self {
        Self { overrides, ..self }
    }

    /// The client's id and secret (RFC 6749 §2.2, §2.3).
    pub fn client(self, id: &str, secret: impl Into<Option<Secret>>) -> Self {
        Self { client: Some(Client { id: id.to_owned(), secret: secret.into(), ..Client::default() }), ..self }
    }

    /// A folder of secrets, one file each: `oauth2-client-id`, `oauth2-client-secret` or `oauth2-private-key`, read anew for
    /// every call, and `etl-oauth-seal-keys`, with which sessions are sealed, too: then another replica, or the next
    /// process, ends an authorisation that this one began.
    pub fn secrets(self, secrets: Secrets) -> Self {
        Self { secrets: Some(secrets), ..self }
    }

    /// The time limit of one call to the provider; 10 s where nothing is said.
    pub fn token_timeout(self, timeout: Duration) -> Self {
        Self { token_timeout: timeout, ..self }
    }

    /// Another clock, for tests.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Makes the keeper. Nothing is called: a server's metadata and the store are read in the background, and by first use.
    ///
    /// # Errors
    /// [`BuildError`], with every mistake of the provider at once.
    pub fn build(self) -> Result<TokenKeeper, BuildError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let definition = self.definition.or_else(|| Definition::builtin(&self.name));
        let definition = definition.ok_or_else(|| BuildError::UnknownProvider(self.name.clone()))?;
        let redirect_uri = self.overrides.redirect_uri.clone().unwrap_or_default();
        let provider = Provider::new(&self.name, definition, self.overrides).map_err(BuildError::Provider)?;
        let credentials = match (self.client, &self.secrets) {
            (Some(client), _) => Credentials::fixed(client),
            (None, Some(secrets)) => Credentials::mounted(secrets.clone(), None),
            (None, None) => return Err(BuildError::NoClient),
        };
        let keys = self.secrets.as_ref().and_then(|secrets| secrets.read("etl-oauth-seal-keys").ok().flatten());
        let sessions = Sessions::new(keys.as_ref())?;
        let wire = HttpClient::http(self.token_timeout).map_err(|_| BuildError::NoTls)?;
        let mut policy = Policy::of(&provider);
        policy.token_timeout = self.token_timeout;
        policy.lease = policy.lease.max(self.token_timeout * 3);
        let authority = Authority::new(provider, credentials, wire);
        let parts = Parts {
            authority: authority.clone(),
            store: Arc::new(self.store),
            policy,
            owner: owner(),
            clock: self.clock.clone(),
            announcer: Announcer::default(),
        };
        let keepers = Arc::new(Keepers::new(parts));
        let (metadata, changes) = (authority.clone(), Arc::clone(&keepers));
        let tasks = vec![
            runtime.spawn(async move { metadata.follow().await }).abort_handle(),
            runtime.spawn(async move { changes.follow().await }).abort_handle(),
        ];
        Ok(TokenKeeper(Arc::new(Inner { authority, keepers, sessions, redirect_uri, clock: self.clock, tasks })))
    }
}

/// This process's name in leases: two of one host must differ.
fn owner() -> String {
    let mut salt = [0; 8];
    // Without randomness the process id tells two of one host apart.
    let _ = aws_lc_rs::rand::fill(&mut salt);
    format!("{}-{:016x}", std::process::id(), u64::from_le_bytes(salt))
}
