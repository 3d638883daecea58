//! `/connect/TOKEN`: the owner of an account opens a link, and comes back from the provider.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::{StatusCode, header};
use jiff::Timestamp;

use super::{
    super::{
        App, State as AppState,
        audit::Action,
        connection::Named,
        enable::is_taken,
        respond::{self, Asked, Posted, problem},
    },
    owner::{self, Seen},
    stored::{Link, LinkState, Owner},
};
use crate::{
    format::moment,
    guard::{Csrf, Endpoint, Guess, Pending, Who},
    pages::{ConnectPage, Page},
};
use token_keeper::token::{Record, TokenResponse};

/// `GET`: the page of the link. Uses nothing up: previews and scanners open it, too.
pub(in crate::routes) async fn open(
    State(app): AppState,
    Path(token): Path<String>,
    asked: Asked,
) -> Result<Response, Response> {
    app.admit_to_function(Endpoint::Connect, &asked, "").await?;
    let (link, named) = app.link(&asked, &token).await?;
    let csrf = Csrf::issue(&app.key, &app.jar, &asked.headers).ok_or_else(|| app.no_randomness(&asked))?;
    let authority = &named.connection.authority;
    let provider = authority.ready().await.map_err(|failure| app.not_ready(&asked, &failure))?;
    let Some(authorize_url) = &provider.authorize_url else { return Err(app.no_authorize_url(&asked)) };
    let page = Page::from(&ConnectPage {
        base: &app.base,
        function: &app.config.store_options.function,
        provider: &provider.title,
        scopes: &provider.scope.iter().map(String::as_str).collect::<Vec<_>>(),
        account: named.shown(),
        by: link.by.strip_prefix("caller:"),
        expect: link.terms.expect.as_deref(),
        authorize_url,
        token: &token,
        ends_at: link.expires_at,
        csrf: &csrf.token,
    });
    Ok(respond::page(page, csrf.cookie))
}

/// `POST`: leads to the provider.
pub(in crate::routes) async fn start(
    State(app): AppState,
    Path(token): Path<String>,
    asked: Asked,
    form: Posted,
) -> Result<Response, Response> {
    app.admit_form(Endpoint::Connect, &asked, form).await?;
    let (link, named) = app.link(&asked, &token).await?;
    app.lead_to_provider(&asked, &named, Some(&link.id), true).await
}

/// What became of a grant that came by a link.
pub(in crate::routes) enum Settled {
    Kept,
    /// Another person's, or over another's: the operator decides.
    Held(Response),
}

impl App {
    /// The open link of that token, and its account.
    async fn link(&self, asked: &Asked, token: &str) -> Result<(Link, Named), Response> {
        let now = self.clock.now();
        let found = self.links.find(token).await.map_err(|err| self.no_store(asked, &err))?;
        let Some(link) = found else {
            return match self.guesses.judge(&asked.headers, false, token.len(), now) {
                Guess::Throttled(seconds) => {
                    let words = (
                        "Too many wrong links",
                        "so many were wrong that none is looked at for a moment",
                        "Wait, and open the right one.",
                    );
                    let problem = problem("too_many_tries", StatusCode::TOO_MANY_REQUESTS, words);
                    let mut response = asked.problem(self, &problem);
                    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                    Err(response)
                }
                Guess::Wrong(pause) => {
                    tokio::time::sleep(pause).await;
                    Err(self.no_link(asked, "this link is not known, or incomplete"))
                }
                Guess::Right => Err(self.no_link(asked, "this link is not known, or incomplete")),
            };
        };
        if !link.is_open(now) {
            return Err(self.no_link(asked, &ended(&link)));
        }
        let named = self.link_account(&link);
        let named = named.ok_or_else(|| self.no_link(asked, "what it was for is no longer there"))?;
        Ok((link, named))
    }

    fn link_account(&self, link: &Link) -> Option<Named> {
        let connection = Arc::clone(self.connections.get(&link.connection)?);
        Some(Named { connection, account: link.account.clone() })
    }

    fn no_link(&self, asked: &Asked, why: &str) -> Response {
        let next = "Ask the person who sent you the link for a new one.";
        asked.problem(self, &problem("link_ended", StatusCode::NOT_FOUND, ("This link does not work", why, next)))
    }

    /// The link by which an authorisation was begun, where its flow may still be finished: a link may end by time meanwhile,
    /// and not by use, by the operator, or with its account.
    pub(in crate::routes) async fn link_of(&self, asked: &Asked, pending: &Pending) -> Result<Option<Link>, Response> {
        let Some(id) = pending.link() else { return Ok(None) };
        let found = self.links.by_id(id).await.map_err(|err| self.no_store(asked, &err))?;
        let link = found.ok_or_else(|| self.no_link(asked, "it was for an account that is no longer there"))?;
        let same = link.connection == pending.connection() && link.account == pending.account();
        if link.state == LinkState::Open && same { Ok(Some(link)) } else { Err(self.no_link(asked, &ended(&link))) }
    }

    /// Stores the grant of a person who came by a link, where that is the expected person and the grant replaces that of no
    /// other one; otherwise holds it for the operator. Uses the link up.
    pub(in crate::routes) async fn settle_link(
        &self,
        asked: &Asked,
        named: &Named,
        link: &Link,
        answer: TokenResponse,
        sent_at: Timestamp,
    ) -> Result<Settled, Response> {
        let keeper = self.keeper(asked, named)?;
        let grant = keeper.grant(answer, sent_at);
        keeper.sync().await;
        let who = grant.owner.as_ref().map(|owner| owner.told().to_owned());
        let now = self.clock.now();
        let used = self.links.use_up(&link.id, who.as_deref(), now).await.map_err(|err| self.no_store(asked, &err))?;
        if !used {
            let found = self.links.by_id(&link.id).await.ok().flatten();
            return Err(self.no_link(asked, &found.as_ref().map_or_else(String::new, ended)));
        }
        let expected =
            link.terms.expect.as_ref().is_none_or(|expect| grant.owner.as_ref().is_some_and(|owner| owner.is(expect)));
        if !expected || replaces_anothers(&keeper, &grant) {
            let waits = self.hold(asked, named, link, &grant, now).await?;
            return Ok(Settled::Held(waits));
        }
        keeper.take(&grant).await;
        tracing::info!(
            connection = link.connection,
            account = link.account,
            link = link.id,
            "authorised by a connect link"
        );
        let by = format!("link:{}", link.id);
        // The same person's, or where none was: that is decided for all that came with the consent.
        self.keep_also((Who::Operator, &by), named, &grant).await;
        self.floor.forget();
        self.note(&by, Action::LinkUse, named, "ok");
        let owner = Owner { terms: link.terms.clone(), told: None };
        if let Err(err) = self.links.set_owner(&link.connection, &link.account, Some(&owner)).await {
            tracing::warn!(error = %err, "failed to store where the account's owner is told of trouble");
        }
        Ok(Settled::Kept)
    }

    /// Where a person who came by a link goes: to their own page.
    pub(in crate::routes) fn led_home(&self, named: &Named, link: &Link) -> Response {
        let keeper = named.connection.keepers.get(&named.account).ok();
        let current = keeper.and_then(|keeper| keeper.current());
        let seen = Seen {
            decided_at: current.and_then(|stored| stored.record.decided_at),
            connection: link.connection.clone(),
            account: link.account.clone(),
            return_url: link.terms.return_url.clone(),
            ends_at: self.clock.now(),
        };
        respond::see_other(&self.config.page("/mine"), owner::remember(self, seen))
    }
}

/// Whether the grant would replace that of another person, or of an unknown one, at an account that works.
fn replaces_anothers(keeper: &token_keeper::renewal::Keeper, grant: &Record) -> bool {
    if !is_taken(keeper) {
        return false;
    }
    let stored = keeper.current();
    let known = stored.as_ref().and_then(|stored| stored.record.owner.as_ref());
    let same = known.zip(grant.owner.as_ref()).is_some_and(|(old, new)| old.id == new.id);
    let works = stored.as_ref().is_some_and(|stored| !stored.record.health.needs_authorisation);
    // An account that does not work may be taken, unless its owner is known to be another person.
    if works { !same } else { known.is_some() && !same }
}

/// Why a link does not work any more.
fn ended(link: &Link) -> String {
    match &link.state {
        LinkState::Open => format!("it ended on {}", moment(link.expires_at)),
        LinkState::Used { at, .. } => format!("it was used on {}, and a link is good once", moment(*at)),
        LinkState::Ended { .. } => "it was taken back".to_owned(),
    }
}
