//! `/oauth2/callback`: the dangerous door. Nothing of a request is believed before its `state` is.

use std::sync::Arc;

use axum::{
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use jiff::Timestamp;

use super::{
    App, State as AppState,
    connection::Named,
    done,
    links::{Link, Settled},
    respond::{self, Asked, problem},
};
use crate::{
    config::DEFAULT_CONNECTION,
    guard::{Endpoint, Pending, StateError, Who},
    pages::Problem,
};
use token_keeper::{
    grant::{Code, is_signed, judge_redirect_error},
    provider::{Definition, Source, Values},
    token::{Failure, FailureKind, Secret},
};

/// The path of the redirect URI without a name.
const CALLBACK: &str = "/oauth2/callback";

/// What the provider may send along (RFC 6749 §4.1.2, RFC 9207 §2). Everything else is passed over.
#[derive(Debug, Default)]
struct Arrival {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    iss: Option<String>,
    /// What the provider's definition wants kept with the tokens.
    kept: Values,
}

impl Arrival {
    /// Reads a query; `None` when a parameter is there twice (RFC 6749 §3.1). An empty one counts as not there.
    fn read(provider: &Definition, query: &str) -> Option<Self> {
        let mut arrival = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let kept =
                provider.variables.iter().find(|(variable, it)| it.from == Source::Redirect && it.at(variable) == name);
            if let Some((variable, _)) = kept {
                if arrival.kept.insert(variable.clone(), value.into_owned()).is_some() {
                    return None;
                }
                continue;
            }
            let field = match &*name {
                name if name == provider.callback.code => &mut arrival.code,
                name if name == provider.callback.state => &mut arrival.state,
                "error" => &mut arrival.error,
                "iss" => &mut arrival.iss,
                _ => continue,
            };
            if field.is_some() {
                return None;
            }
            *field = Some(value.into_owned()).filter(|value| !value.is_empty());
        }
        Some(arrival)
    }
}

/// `HEAD` uses nothing up: link scanners send it.
pub(super) async fn head() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The same at the redirect URI of a connection.
pub(super) async fn head_at(
    State(app): AppState,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<StatusCode, Response> {
    if name != DEFAULT_CONNECTION && app.connections.contains_key(&name) {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(super::not_found(State(app), asked).await)
}

/// `GET`: the person is back, at the redirect URI of the connection without a name.
pub(super) async fn arrive(app: AppState, asked: Asked, query: RawQuery) -> Result<Response, Response> {
    arrive_at(app, Path(DEFAULT_CONNECTION.to_owned()), asked, query).await
}

/// `GET`: the person is back, at the redirect URI of a connection.
pub(super) async fn arrive_at(
    State(app): AppState,
    Path(name): Path<String>,
    asked: Asked,
    RawQuery(query): RawQuery,
) -> Result<Response, Response> {
    // `default` has the address without a name alone: a provider compares it to the letter.
    let spelt = (name == DEFAULT_CONNECTION) == (asked.uri.path() == CALLBACK);
    let Some(connection) = app.connections.get(&name).filter(|_| spelt) else {
        return Err(super::not_found(State(app), asked).await);
    };
    if is_prefetch(&asked) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let query = query.unwrap_or_default();
    let arrival = Arrival::read(connection.provider().definition(), &query)
        .ok_or_else(|| app.bad(&asked, "the address holds a parameter twice"))?;
    let state = arrival.state.as_deref().ok_or_else(|| app.bad(&asked, "the address holds no state"))?;
    let now = app.clock.now();
    let pending = Pending::open(&app.key, &app.jar, &app.used, &asked.headers, state, now)
        .map_err(|err| app.stale(&asked, err))?;
    // Mix-up (RFC 9700 §4.4.2.2): another server's answer came to this connection's address.
    if pending.connection() != connection.name() {
        return Err(
            app.bad(&asked, "the answer comes to the address of another connection than the one that was asked")
        );
    }
    let named = Named { connection: Arc::clone(connection), account: pending.account().to_owned() };
    let link = app.link_of(&asked, &pending).await?;
    // A link is the admission of the person who has it, and of what it names alone.
    let who = match &link {
        Some(_) => app.admit(Endpoint::Connect, &asked, &named, "").await?,
        None => app.admit(Endpoint::Callback, &asked, &named, "").await?,
    };
    app.use_up(&named, &pending, who, state, now).await.map_err(|err| app.stale(&asked, err))?;
    if app.is_revoked_since(&named, pending.begun_at(app.config.state_lifetime)).await {
        return Err(app.stale(&asked, StateError::Revoked));
    }
    let forget = Pending::forget(&app.jar, state);
    let result = app.complete(&asked, &named, (who, link.as_ref()), (&query, &arrival), &pending).await;
    let mut response = result.unwrap_or_else(|refused| refused);
    if let Some(cookie) = forget {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Browsers and proxies that fetch ahead say so; a code fetched ahead would be lost to the person.
fn is_prefetch(asked: &Asked) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"].iter().any(|name| {
        asked.headers.get(*name).and_then(|value| value.to_str().ok()).is_some_and(|value| {
            let value = value.to_ascii_lowercase();
            value.contains("prefetch") || value.contains("preview")
        })
    })
}

impl App {
    /// Uses the state up, here and for the other replicas. A store that is away must not keep a person from authorising:
    /// then this replica remembers alone.
    async fn use_up(
        &self,
        named: &Named,
        pending: &Pending,
        who: Who,
        state: &str,
        now: Timestamp,
    ) -> Result<(), StateError> {
        pending.use_up(&self.used, who == Who::Operator, state, now)?;
        let Ok(keeper) = named.connection.keepers.get(&named.account) else { return Ok(()) };
        match keeper.use_up(&Secret::new(state).digest(), pending.ends_at()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(StateError::Used),
            Err(err) => {
                tracing::warn!(account = pending.account(), error = %err, "the store cannot tell the other replicas");
                Ok(())
            }
        }
    }

    async fn complete(
        &self,
        asked: &Asked,
        named: &Named,
        (who, link): (Who, Option<&Link>),
        (query, arrival): (&str, &Arrival),
        pending: &Pending,
    ) -> Result<Response, Response> {
        let connection = &named.connection;
        let (provider, authority) = (connection.provider(), &connection.authority);
        if provider.callback.sign.is_some() {
            let client = authority.client(self.clock.now()).map_err(|failure| self.not_exchanged(asked, &failure))?;
            if !is_signed(provider, &client, query) {
                return Err(self.bad(asked, "the address does not bear the provider's signature"));
            }
        }
        // Mix-up (RFC 9207 §2.4): an answer of another issuer is believed in nothing, its error neither.
        if let (Some(ours), Some(theirs)) = (&provider.issuer, &arrival.iss)
            && ours != theirs
        {
            return Err(self.bad(asked, "the answer comes from another issuer than the one that was asked"));
        }
        if authority.provider().iss_required && arrival.iss.is_none() {
            return Err(self.bad(asked, "the answer does not say which issuer it comes from, and this one always does"));
        }
        let keeper = self.keeper(asked, named)?;
        let code = match (&arrival.code, &arrival.error) {
            (Some(code), None) => code,
            (None, Some(error)) => return Err(self.refused(asked, &provider.title, error)),
            (Some(_), Some(_)) => return Err(self.bad(asked, "the address holds both a code and an error")),
            (None, None) => return Err(self.bad(asked, "the address holds neither a code nor an error")),
        };
        for (name, value) in &arrival.kept {
            if provider.variables.get(name).is_none_or(|variable| variable.check(value).is_err()) {
                return Err(self.bad(asked, "the address holds a value that is not what the provider sends"));
            }
        }
        let sent_at = self.clock.now();
        let (redirect_uri, verifier) = (connection.config.redirect_uri(), pending.verifier());
        let seed = pending.seed(&self.key);
        let code = Code { code, state: arrival.state.as_deref().unwrap_or_default() };
        let answer = authority.exchange(code, redirect_uri, verifier, &seed, &arrival.kept, sent_at).await;
        let mut answer = answer.map_err(|failure| self.not_exchanged(asked, &failure))?;
        let owner = authority.owner(&answer, sent_at).await;
        answer.owner = owner.map_err(|failure| self.not_exchanged(asked, &failure))?;
        let Some(link) = link else {
            let kept = self.settle(asked, named, who, &keeper, answer, sent_at).await?;
            return Ok(respond::see_other(&self.config.page("/done"), done::flash(self, named, &kept)));
        };
        match self.settle_link(asked, named, link, answer, sent_at).await? {
            Settled::Kept => Ok(self.led_home(named, link)),
            Settled::Held(waits) => Ok(waits),
        }
    }

    fn bad(&self, asked: &Asked, message: &str) -> Response {
        let next = "Begin again at the enable page; if it happens again, look whether something rewrites the address.";
        asked.problem(
            self,
            &again(problem("bad_request", StatusCode::BAD_REQUEST, ("That is no answer", message, next))),
        )
    }

    fn stale(&self, asked: &Asked, err: StateError) -> Response {
        let (error, title, next) = match err {
            StateError::Used => (
                "state_used",
                "This was already done",
                "Look at the function's page; begin again only if it is not connected.",
            ),
            StateError::Expired => ("state_expired", "That took too long", "Begin again at the enable page."),
            StateError::Revoked => (
                "state_revoked",
                "It was revoked meanwhile",
                "Begin again at the enable page, when it is to be connected again.",
            ),
            StateError::OtherBrowser => {
                ("state_foreign", "This is another browser", "Begin and end in the same browser, with cookies allowed.")
            }
            StateError::Foreign => ("state_foreign", "That is no answer", "Begin again at the enable page."),
        };
        asked.problem(self, &again(problem(error, StatusCode::BAD_REQUEST, (title, &err.to_string(), next))))
    }

    /// The provider's error (RFC 6749 §4.1.2.1). Its description is for developers, and a stranger can
    /// put any text into a link: only the code is shown.
    fn refused(&self, asked: &Asked, provider: &str, error: &str) -> Response {
        if error == "access_denied" {
            let message = format!("access to {provider} was not allowed (access_denied); nothing was stored");
            let words = ("You did not allow it", &*message, "Begin again when you want to.");
            return asked.problem(self, &again(problem("access_denied", StatusCode::FORBIDDEN, words)));
        }
        let failure = judge_redirect_error(error);
        let message = format!("{failure}; nothing was stored");
        if failure.class() == FailureKind::ProviderUnavailable {
            let next = "Begin again in some minutes: nothing is wrong here.";
            let words = ("The provider cannot answer just now", &*message, next);
            return asked.problem(self, &again(problem(error, StatusCode::SERVICE_UNAVAILABLE, words)));
        }
        let words =
            ("The provider refused", &*message, "Compare the client, its redirect URI and scopes with the provider.");
        asked.problem(self, &again(problem("provider_refused", StatusCode::BAD_GATEWAY, words)))
    }

    fn not_exchanged(&self, asked: &Asked, failure: &Failure) -> Response {
        let (class, reason) = (failure.class().as_str(), failure.reason());
        tracing::warn!(class, reason, error = %failure, "the code could not be exchanged");
        let message = format!("{failure}; nothing was stored");
        let next = match failure.class() {
            FailureKind::InvalidGrant => "Begin again: a code is good once, and for minutes.",
            class => class.next_step(),
        };
        let words = ("The provider gave no token", &*message, next);
        let error = failure.code().unwrap_or(failure.class().as_str()).to_owned();
        asked.problem(self, &again(problem(&error, StatusCode::BAD_GATEWAY, words).with_reason(failure.reason())))
    }
}

fn again(problem: Problem) -> Problem {
    problem.with_link("/enable", "Begin again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_is_there_twice_is_refused_and_unknown_ones_are_passed_over() {
        let read = |query| Arrival::read(&Definition::default(), query);
        let arrival = read("code=a%3Ab&state=s&scope=x&scope=y&authuser=0&error=").unwrap();
        assert_eq!((arrival.code.as_deref(), arrival.state.as_deref(), arrival.error), (Some("a:b"), Some("s"), None));
        for twice in ["code=a&code=b", "state=&state=s", "error=a&error=a", "iss=a&iss=b"] {
            assert!(read(twice).is_none() || twice.starts_with("state=&"), "{twice}");
        }
    }

    #[test]
    fn code_and_state_come_under_other_names_and_values_of_the_redirect_are_kept() {
        let text = "token_url = 'https://p.example/t'\ncallback = { code = 'auth_code', state = 'st' }\n\
                    [variables.realm]\nfrom = 'redirect'\nat = 'realmId'\nkind = 'segment'";
        let definition = Definition::read("acme.toml", text).unwrap();
        let arrival = Arrival::read(&definition, "auth_code=a&st=s&code=x&realmId=42").unwrap();
        assert_eq!((arrival.code.as_deref(), arrival.state.as_deref()), (Some("a"), Some("s")));
        assert_eq!(arrival.kept["realm"], "42");
        assert!(Arrival::read(&definition, "auth_code=a&st=s&realmId=1&realmId=2").is_none());
    }
}
