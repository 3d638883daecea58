//! A connection in use, and which connection and account a request means.

use std::{fmt, sync::Arc, time::Duration};

use axum::response::Response;
use http::{HeaderName, StatusCode};

use super::{
    App,
    audit::{self, Audit},
    links::Notifier,
    respond::{Asked, Fields, problem},
};
use crate::{
    BoxError,
    config::{self, Config, DEFAULT_CONNECTION},
    guard::Allow,
    job::Progress,
};
use token_keeper::{
    api::{Api, ApiError},
    grant::{Authority, Credentials, HttpClient},
    provider::Provider,
    renewal::{Announcer, Clock, Keeper, KeeperError, Keepers, Origin, Parts, SweepOptions},
    secrets::Secrets,
    store::{ByteStore as _, DEFAULT_ACCOUNT, Store, StoreError},
    token::Secret,
};

/// Name connection and account of a call of `/proxy`, whose query belongs to the API. Elsewhere they may repeat what query or
/// form say, and nothing else.
pub(super) const CONNECTION: HeaderName = HeaderName::from_static("x-etl-oauth-connection");
pub(super) const ACCOUNT: HeaderName = HeaderName::from_static("x-etl-oauth-account");

/// Between two counts of the accounts where nothing is renewed by itself.
const COUNTS: Duration = Duration::from_secs(30);

/// One OAuth client at one provider: its authorization server, its accounts and its API.
pub(super) struct Connection {
    pub(super) config: config::Connection,
    pub(super) authority: Authority,
    pub(super) keepers: Keepers,
    /// How far the runs for its accounts have got.
    pub(super) progress: Progress,
    /// What callers may use of its API.
    pub(super) allow: Allow,
    api: Api,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("name", &self.config.name).finish_non_exhaustive()
    }
}

impl Connection {
    /// Opens the connection, over the stores of tokens and of what jobs remember: they and the provider need not be there yet.
    ///
    /// # Errors
    /// When the TLS library does not start.
    pub(super) async fn open(
        config: &Config,
        connection: config::Connection,
        store: Arc<Store>,
        (notifier, audit): (&Arc<Notifier>, &Audit),
        (owner, clock): (&str, &Clock),
    ) -> Result<Self, BoxError> {
        let secrets = connection.secrets.clone();
        let credentials = Credentials::mounted(secrets.clone(), connection.key_id.clone());
        let wire = HttpClient::http(connection.policy.token_timeout)?;
        let authority = Authority::new(connection.provider.clone(), credentials, wire);
        let announcer = {
            let (url, key) = (config.secrets.clone(), config.secrets.clone());
            let read = |secrets: &Secrets, name: &str| secrets.read(name).ok().flatten();
            let origin = Origin {
                function: config.store_options.function.clone(),
                connection: connection.name.clone(),
                provider: connection.provider.name.clone(),
                url: config.page("/status"),
            };
            let owners = notifier.announcer(origin.clone());
            let url = move || read(&url, "etl-oauth-notify-url");
            Announcer::signed_webhook(origin, url, move || read(&key, "etl-oauth-notify-key"))?.and(owners)
        };
        let announcer = announcer.observed_by(audit::renewals(audit.clone(), connection.name.clone()));
        // A store of one record has no names in it.
        let space = if store.capabilities().accounts { &*connection.name } else { DEFAULT_CONNECTION };
        let keepers = Keepers::of_connection(
            space,
            Parts {
                authority: authority.clone(),
                store,
                policy: connection.policy.clone(),
                owner: owner.to_owned(),
                clock: clock.clone(),
                announcer,
            },
        )
        .within(config.limits);
        let first = keepers.get(DEFAULT_ACCOUNT)?;
        first.sync().await;
        let id = secrets.read("oauth2-client-id").ok().flatten();
        let api = Api::of(Arc::new(connection.provider.clone()), id.as_ref().map_or("", Secret::expose), first)?;
        Ok(Self {
            allow: config.proxy_allow.get(&connection.name).cloned().unwrap_or_default(),
            progress: Progress::default(),
            config: connection,
            authority,
            keepers,
            api,
        })
    }

    /// Renews what is due, for as long as the function runs; without `sweep` it counts the accounts and no more.
    pub(super) async fn renew_what_is_due(self: Arc<Self>, sweep: Option<SweepOptions>) {
        let Some(mut options) = sweep else {
            loop {
                self.keepers.show_counts().await;
                tokio::time::sleep(COUNTS).await;
            }
        };
        options.concurrency = self.config.concurrency;
        match self.keepers.sweep(options).await {}
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    /// The name, where it is not the nameless one: what forms and pages show.
    pub(super) fn shown(&self) -> Option<&str> {
        (!self.config.is_default()).then_some(self.name())
    }

    pub(super) fn provider(&self) -> &Provider {
        &self.config.provider
    }

    /// The provider's API with the tokens of `keeper`.
    pub(super) fn api(&self, keeper: Keeper) -> Api {
        self.api.with(keeper)
    }

    /// The state of an account, as far as this replica knows; asking makes no keeper of an account that has none.
    pub(super) fn state(&self, account: &str) -> token_keeper::token::State {
        if account == DEFAULT_ACCOUNT {
            return self.keepers.get(account).map_or(token_keeper::token::State::Disabled, |keeper| keeper.state());
        }
        token_keeper::token::State::Disabled
    }
}

/// An account of a connection, as a request names it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) connection: Arc<Connection>,
    pub(super) account: String,
}

impl Named {
    /// The account's name, where it is not `default`: what pages show.
    pub(super) fn shown(&self) -> Option<&str> {
        Some(&*self.account).filter(|account| *account != DEFAULT_ACCOUNT)
    }

    /// Query parameters that name it.
    pub(super) fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if let Some(connection) = self.connection.shown() {
            query.append_pair("connection", connection);
        }
        query.append_pair("account", &self.account).finish()
    }
}

impl App {
    /// The connection that remembers what belongs to the whole function: `default`, or the first one.
    pub(super) fn home(&self) -> &Arc<Connection> {
        &self.home
    }

    /// The connection that is meant where none is named.
    pub(super) fn implied(&self) -> Option<&Arc<Connection>> {
        self.connections.get(&self.config.implied_connection()?.name)
    }

    /// The account that a request means by its query, its form, or by nothing.
    pub(super) fn named(&self, asked: &Asked, form: &Fields) -> Result<Named, Response> {
        self.named_or(asked, form, "")
    }

    /// The same, where another connection than the implied one is meant by nothing.
    pub(super) fn named_or(&self, asked: &Asked, form: &Fields, implied: &str) -> Result<Named, Response> {
        let (mut connection, mut account) = (form.connection.clone(), form.account.clone());
        // The query of a callback is the provider's; no such request comes here.
        for (name, value) in url::form_urlencoded::parse(asked.uri.query().unwrap_or_default().as_bytes()) {
            let field = match &*name {
                "connection" => &mut connection,
                "account" => &mut account,
                _ => continue,
            };
            if field.is_empty() {
                *field = value.into_owned();
            } else if *field != value {
                return Err(self.contradiction(asked));
            }
        }
        let connection = self.connection(asked, if connection.is_empty() { implied } else { &connection })?;
        let account = if account.is_empty() { DEFAULT_ACCOUNT.to_owned() } else { account };
        let says = |header: &HeaderName, name: &str| asked.headers.get_all(header).iter().all(|value| value == name);
        if !says(&CONNECTION, connection.name()) || !says(&ACCOUNT, &account) {
            return Err(self.contradiction(asked));
        }
        Ok(Named { connection: Arc::clone(connection), account })
    }

    /// The connection of that name; the implied one for none.
    pub(super) fn connection(&self, asked: &Asked, name: &str) -> Result<&Arc<Connection>, Response> {
        let found = if name.is_empty() { self.implied() } else { self.connections.get(name) };
        found.ok_or_else(|| {
            let message = match name {
                "" => "this function has several connections, and the request names none",
                _ => "this function has no connection of that name",
            };
            let names = self.connections.keys().cloned().collect::<Vec<_>>().join(", ");
            let next = format!("Name one by `connection`: {names}.");
            let words = ("Which connection?", message, &*next);
            asked.problem(self, &problem("bad_connection", StatusCode::BAD_REQUEST, words))
        })
    }

    /// The connection of that name, which an empty one is not.
    pub(super) fn connection_named(&self, asked: &Asked, name: &str) -> Result<&Arc<Connection>, Response> {
        self.connection(asked, if name.is_empty() { "-" } else { name })
    }

    fn contradiction(&self, asked: &Asked) -> Response {
        let words = (
            "That contradicts itself",
            "query, form and headers name different connections or accounts",
            "Name the connection and the account once.",
        );
        asked.problem(self, &problem("bad_request", StatusCode::BAD_REQUEST, words))
    }

    /// The keeper of an account that a request names.
    pub(super) fn keeper(&self, asked: &Asked, named: &Named) -> Result<Keeper, Response> {
        named.connection.keepers.get(&named.account).map_err(|err| self.no_account(asked, &err))
    }

    /// The keeper of an account that a request only uses. Makes no account: only the operator or a person begins one with a
    /// name.
    pub(super) async fn existing(&self, asked: &Asked, named: &Named) -> Result<Keeper, Response> {
        let found = named.connection.keepers.existing(&named.account).await;
        found.map_err(|err| self.no_account(asked, &err))?.ok_or_else(|| {
            let err = ApiError::from(KeeperError::Disabled { account: named.account.clone() });
            self.api_failed(asked, &err)
        })
    }

    pub(super) fn no_account(&self, asked: &Asked, err: &StoreError) -> Response {
        let words =
            ("There can be no such account", &*err.to_string(), "Use another name, or none for the account default.");
        asked.problem(self, &problem("bad_account", StatusCode::BAD_REQUEST, words))
    }
}
