//! Connect links. Each lets one person authorise one account once. The operator makes them, or a caller that `links_allow`
//! names.

mod connect;
mod held;
mod notify;
mod owner;
mod stored;

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header, uri::PathAndQuery};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{
    App, State as AppState,
    audit::{Action, OPERATOR},
    authorize::Admitted,
    connection::Named,
    respond::{self, Asked, FORM_LIMIT, Fields, problem},
};
use crate::{
    config::duration,
    format::whole,
    guard::{Csrf, Endpoint, Refusal},
    pages::{HeldRow, LinkRow, LinksPage, Page},
};
pub(super) use connect::{Settled, open, start};
pub(super) use held::decide;
pub(super) use notify::{Notifier, notifier};
pub(super) use owner::{disconnect, mine};
use stored::Terms;
pub(super) use stored::{Link, Links};
use token_keeper::{
    provider::{Grant, Provider, checked_url},
    store::StoreError,
};

/// How long a link is good where nothing is said, and at most.
const LIFETIME: Duration = Duration::from_hours(72);
const LONGEST: Duration = Duration::from_hours(168);
/// How many links a page of `GET /links` has.
const PAGE: usize = 100;
/// The longest value of a wish, in bytes.
const LONGEST_TEXT: usize = 1000;

/// What is wanted of a new link: JSON, or the form of the operator's page.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    csrf: String,
    connection: String,
    account: String,
    expires_in: String,
    expect: String,
    notify: String,
    return_url: String,
}

/// The path that the access log shows of a call to a link: the link's own holds its token.
pub(super) async fn hide(mut response: Response) -> Response {
    response.extensions_mut().insert(PathAndQuery::from_static("/connect/-"));
    response
}

/// `POST /links`: makes one. Its URL is in this answer alone.
pub(super) async fn make(State(app): AppState, asked: Asked, request: Request) -> Result<Response, Response> {
    let operator = app.recognises(&asked).await || app.config.links_allow.is_empty();
    let (by, caller, body) = if operator {
        (OPERATOR.to_owned(), None, request.into_body())
    } else {
        let admitted = app.admit_caller(Endpoint::Token, &asked, request.into_body(), true).await?;
        let actor = admitted.actor();
        let Admitted { caller, body, .. } = admitted;
        if !app.config.links_allow.iter().any(|name| name == caller.name()) {
            return Err(app.refuse(Endpoint::Token, &asked, Refusal::Forbidden));
        }
        (actor, Some(caller), body)
    };
    let wanted = read(&app, &asked, body).await;
    if operator {
        let csrf = wanted.as_ref().map_or("", |wanted| &wanted.csrf);
        app.admit_to_function(Endpoint::Operate, &asked, csrf).await?;
    }
    let wanted = wanted?;
    let fields = Fields { connection: wanted.connection.clone(), account: wanted.account.clone(), ..Fields::default() };
    let named = app.named(&asked, &fields)?;
    if let Some(caller) = &caller {
        app.check_rights(&asked, caller, &named)?;
    }
    let (link, token) = app.new_link(&asked, &named, by, &wanted).await?;
    let url = app.config.page(&format!("/connect/{token}"));
    app.note(&link.by, Action::LinkCreate, &named, "ok");
    tracing::info!(
        link = link.id,
        connection = link.connection,
        account = link.account,
        by = link.by,
        "made a connect link"
    );
    if asked.wants_html() {
        return app.links_page(&asked, Some(&url)).await;
    }
    let mut row = app.row(&link);
    row["url"] = url.into();
    Ok(respond::json(StatusCode::CREATED, &row))
}

/// The wish in a body of at most a form's length.
async fn read(app: &App, asked: &Asked, body: Body) -> Result<Wanted, Response> {
    let wrong = |status, message: &str| {
        let words = ("That is no link to make", message, "Send JSON with `connection`, `account` and `expires_in`.");
        asked.problem(app, &problem("bad_link", status, words))
    };
    let bytes = axum::body::to_bytes(body, FORM_LIMIT).await;
    let bytes = bytes.map_err(|_| wrong(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or broke off"))?;
    let kind = asked.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/x-www-form-urlencoded") {
        return serde_path_to_error::deserialize(serde::de::value::MapDeserializer::new(
            url::form_urlencoded::parse(&bytes).map(|(name, value)| (name.into_owned(), value.into_owned())),
        ))
        .map_err(|err: serde_path_to_error::Error<serde::de::value::Error>| {
            wrong(StatusCode::BAD_REQUEST, &err.inner().to_string())
        });
    }
    serde_json::from_slice(&bytes).map_err(|err| wrong(StatusCode::BAD_REQUEST, &err.to_string()))
}

/// `GET /links` (operator): the open ones, without their URLs.
pub(super) async fn list(State(app): AppState, asked: Asked) -> Result<Response, Response> {
    app.admit_to_function(Endpoint::Status, &asked, "").await?;
    if asked.wants_html() {
        return app.links_page(&asked, None).await;
    }
    let query = asked.uri.query().unwrap_or_default();
    let value = |wanted: &str| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    let (after, only) = (value("cursor").unwrap_or_default(), value("connection"));
    if let Some(only) = &only {
        app.connection_named(&asked, only)?;
    }
    let mut open = app.open_links(&asked).await?;
    open.retain(|link| link.id > after && only.as_ref().is_none_or(|only| *only == link.connection));
    let more = open.len() > PAGE;
    open.truncate(PAGE);
    let next = open.last().filter(|_| more).map(|link| link.id.clone());
    let rows: Vec<Value> = open.iter().map(|link| app.row(link)).collect();
    Ok(respond::json(StatusCode::OK, &json!({ "links": rows, "next_cursor": next })))
}

/// `DELETE /links/ID`: the link no longer works, and neither does what was begun by it.
pub(super) async fn end(State(app): AppState, Path(id): Path<String>, asked: Asked) -> Result<Response, Response> {
    app.admit_to_function(Endpoint::Operate, &asked, "").await?;
    let ended = app.links.end(&id, app.clock.now()).await;
    if ended.map_err(|err| app.no_store(&asked, &err))? {
        app.note_of_all(OPERATOR, Action::LinkDelete, "ok");
        tracing::info!(link = id, "ended a connect link");
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let words = ("There is no such link", "no open link has this id", "GET /links lists those that are open.");
    Err(asked.problem(&app, &problem("not_found", StatusCode::NOT_FOUND, words)))
}

impl App {
    async fn new_link(
        &self,
        asked: &Asked,
        named: &Named,
        by: String,
        wanted: &Wanted,
    ) -> Result<(Link, String), Response> {
        let wrong = |message: &str, next: &str| {
            let words = ("There can be no such link", message, next);
            asked.problem(self, &problem("bad_link", StatusCode::BAD_REQUEST, words))
        };
        if wanted.account.is_empty() {
            return Err(wrong("it names no account", "Name the `account` that the link is for."));
        }
        named.connection.keepers.check(&named.account).map_err(|err| self.no_account(asked, &err))?;
        let provider = named.connection.provider();
        if provider.grant != Grant::AuthorizationCode {
            return Err(wrong("this connection's grant has no page at the provider", "Use /enable."));
        }
        let lifetime = match &*wanted.expires_in {
            "" => Some(LIFETIME),
            text => duration::parse(text).filter(|lifetime| !lifetime.is_zero() && *lifetime <= LONGEST),
        };
        let Some(lifetime) = lifetime else {
            return Err(wrong("`expires_in` is no duration of at most 168h", "Use one such as 72h."));
        };
        let text = |text: &str| Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned);
        let terms =
            Terms { expect: text(&wanted.expect), notify: text(&wanted.notify), return_url: text(&wanted.return_url) };
        if terms.expect.is_some() && !tells_identity(provider) {
            let next =
                "Leave `expect` out; or ask for the scope openid, or set userinfo_url, where the provider has it.";
            return Err(wrong("the provider does not say who a person is, so `expect` cannot be checked", next));
        }
        if let Some(why) = terms.notify.as_deref().and_then(|to| self.notify_mistake(to)) {
            return Err(wrong(&why, "Use mailto:… or https://… for `notify`."));
        }
        if terms.return_url.as_deref().is_some_and(|url| !self.may_return(url)) {
            return Err(wrong(
                "`return_url` lies below no entry of links_return",
                "Use one of those, or leave it out.",
            ));
        }
        if [&terms.expect, &terms.notify, &terms.return_url].into_iter().flatten().any(|it| it.len() > LONGEST_TEXT) {
            return Err(wrong("a value is longer than 1000 bytes", "Use a shorter one."));
        }
        let now = self.clock.now();
        self.add_link(named, by, terms, now, lifetime).await.map_err(|err| self.no_store(asked, &err))
    }

    /// Makes a link and stores it.
    async fn add_link(
        &self,
        named: &Named,
        by: String,
        terms: Terms,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<(Link, String), StoreError> {
        let ends_at = now.checked_add(lifetime).unwrap_or(now);
        let account = (named.connection.name(), &*named.account);
        let made = Link::new(account, by, terms, now, ends_at);
        let (link, token) = made.ok_or_else(|| StoreError::unavailable("there is no randomness"))?;
        self.links.add(&link).await?;
        Ok((link, token))
    }

    /// Whether a link may lead its owner there: the origin of an entry, and below its path.
    fn may_return(&self, url: &str) -> bool {
        let Ok(url) = checked_url(url) else { return false };
        self.config.links_return.iter().any(|entry| below(&url, entry))
    }

    async fn open_links(&self, asked: &Asked) -> Result<Vec<Link>, Response> {
        let now = self.clock.now();
        let mut all = self.links.all().await.map_err(|err| self.no_store(asked, &err))?;
        all.retain(|link| link.is_open(now));
        Ok(all)
    }

    fn row(&self, link: &Link) -> Value {
        json!({
            "id": link.id,
            "connection": link.connection,
            "account": link.account,
            "expires_at": whole(link.expires_at),
            "created_at": whole(link.created_at),
            "by": link.by,
            "expect": link.terms.expect,
        })
    }

    /// The operator's page: the open links, the grants that wait, and a form. `made` is the URL of a link just made.
    async fn links_page(&self, asked: &Asked, made: Option<&str>) -> Result<Response, Response> {
        let csrf = Csrf::issue(&self.key, &self.jar, &asked.headers).ok_or_else(|| self.no_randomness(asked))?;
        let now = self.clock.now();
        let links = self.open_links(asked).await?;
        let links: Vec<LinkRow<'_>> = links
            .iter()
            .map(|link| LinkRow {
                connection: &link.connection,
                account: &link.account,
                by: &link.by,
                expect: link.terms.expect.as_deref(),
                expires_at: link.expires_at,
            })
            .collect();
        let held = self.links.held(now).await.map_err(|err| self.no_store(asked, &err))?;
        let held: Vec<HeldRow<'_>> = held
            .iter()
            .map(|held| HeldRow {
                connection: &held.connection,
                account: &held.account,
                who: held.who.as_deref(),
                at: held.at,
            })
            .collect();
        let connections: Vec<&str> = self.connections.keys().map(String::as_str).collect();
        let page = Page::from(&LinksPage {
            base: &self.base,
            connections: &connections,
            links: &links,
            held: &held,
            made,
            csrf: &csrf.token,
            now,
        });
        Ok(respond::page(page, csrf.cookie))
    }

    /// The answer where links cannot be read or written.
    fn no_store(&self, asked: &Asked, err: &StoreError) -> Response {
        tracing::warn!(error = %err, "failed to use the stored connect links");
        let words = (
            "Links cannot be used just now",
            "the store cannot be read or written",
            "Try again later; if it lasts, the operator finds the reason in the log.",
        );
        asked.problem(self, &problem("store_unavailable", StatusCode::SERVICE_UNAVAILABLE, words))
    }
}

/// Whether an answer of the provider says who the person is.
fn tells_identity(provider: &Provider) -> bool {
    provider.userinfo_url.is_some() || provider.scope.iter().any(|scope| scope == "openid")
}

/// Whether a URL has the origin of `entry` and lies below its path.
fn below(url: &Url, entry: &Url) -> bool {
    let base = entry.path().trim_end_matches('/');
    let rest = url.path().strip_prefix(base);
    url.origin() == entry.origin()
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && !url.path().contains("%2e")
        && !url.path().contains("%2E")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_url_lies_below_an_entry_and_nowhere_else() {
        let entry: Url = "https://app.example/connected".parse().unwrap();
        for (url, good) in [
            ("https://app.example/connected", true),
            ("https://app.example/connected/ada?x=1", true),
            ("https://app.example/connected-evil", false),
            ("https://app.example/connected/../admin", false),
            ("https://app.example/", false),
            ("http://app.example/connected", false),
            ("https://app.example:8443/connected", false),
            ("https://app.example.evil.example/connected", false),
            ("https://app.example@evil.example/connected", false),
        ] {
            assert_eq!(below(&url.parse().unwrap(), &entry), good, "{url}");
        }
        assert!(below(&"https://app.example/x".parse().unwrap(), &"https://app.example".parse().unwrap()));
    }
}
