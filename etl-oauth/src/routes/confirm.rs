//! A new grant that would take something away waits, sealed and stored nowhere, until a person confirms it.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    App, State as AppState,
    audit::{Action, OPERATOR, STRANGER},
    connection::Named,
    done,
    enable::is_taken,
    respond::{self, Asked, FORM_LIMIT, Posted, problem},
};
use crate::{
    guard::{Concern, Csrf, Endpoint, Refusal, Who, concerns},
    pages::{Confirm, Page},
};
use token_keeper::{
    grant::also,
    renewal::{Keeper, Kept, Taken},
    store::DEFAULT_ACCOUNT,
    token::{Record, TokenResponse},
};

const PURPOSE: &str = "grant";
/// For how long it waits.
const LIFETIME: Duration = Duration::from_secs(600);

/// The form of the page that asks.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Confirmed {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    grant: String,
}

/// A grant that waits.
#[derive(Serialize, Deserialize)]
struct Waiting {
    connection: String,
    account: String,
    ends_at: Timestamp,
    /// The record, as the store has it.
    record: String,
}

/// The longest form, from the operator: it holds a sealed record. Others may post no more than any form of ours is long.
const LIMIT: usize = 1 << 20;

/// `POST`: the person wants it.
pub(super) async fn confirm(State(app): AppState, asked: Asked, request: Request) -> Result<Response, Response> {
    let limit = if app.recognises(&asked).await { LIMIT } else { FORM_LIMIT };
    let (Confirmed { csrf, grant }, _) = respond::fields(Posted::read(request, limit).await);
    let waiting = app.open(&grant);
    let named = waiting.as_ref().and_then(|(waiting, _)| app.waits_for(waiting));
    let home = || Named { connection: Arc::clone(app.home()), account: DEFAULT_ACCOUNT.to_owned() };
    let who = app.admit(Endpoint::Callback, &asked, &named.clone().unwrap_or_else(home), &csrf).await?;
    let (named, (waiting, record)) = named.zip(waiting).ok_or_else(|| app.no_grant(&asked))?;
    if !app.used.consume(who == Who::Operator, &grant, waiting.ends_at, app.clock.now()) {
        return Err(app.no_grant(&asked));
    }
    let keeper = app.keeper(&asked, &named)?;
    let kept = app.keep(&asked, &named, who, &keeper, &record).await?;
    Ok(respond::see_other(&app.config.page("/done"), done::flash(&app, &named, &kept)))
}

impl App {
    /// Takes a new grant; or gives the page that asks, where it would take something away.
    pub(super) async fn settle(
        &self,
        asked: &Asked,
        named: &Named,
        who: Who,
        keeper: &Keeper,
        answer: TokenResponse,
        sent_at: Timestamp,
    ) -> Result<Kept, Response> {
        let new = keeper.grant(answer, sent_at);
        keeper.sync().await;
        // A stranger's grant is stored only where none is.
        if who == Who::Anyone && is_taken(keeper) {
            return Err(self.refuse(Endpoint::Callback, asked, Refusal::Taken));
        }
        let now = self.clock.now();
        let wanted = &named.connection.provider().scope;
        let concerns = keeper.current().map(|old| concerns(&old.record, &new, wanted, now)).unwrap_or_default();
        if who == Who::Anyone || concerns.is_empty() {
            return self.keep(asked, named, who, keeper, &new).await;
        }
        Err(self.ask(asked, named, &concerns, &new))
    }

    /// Stores a grant: the operator's over any other, a stranger's only where none is. Of two strangers who were
    /// let in while the account was free, the first one wins, and the other one is refused.
    async fn keep(
        &self,
        asked: &Asked,
        named: &Named,
        who: Who,
        keeper: &Keeper,
        grant: &Record,
    ) -> Result<Kept, Response> {
        let owner = grant.owner.as_ref().map_or("unknown", |owner| &owner.id);
        let kept = match who {
            Who::Operator => Ok(keeper.take(grant).await),
            Who::Anyone | Who::Caller => keeper.take_where_free(grant).await,
        };
        let kept = kept.map_err(|Taken| self.refuse(Endpoint::Callback, asked, Refusal::Taken))?;
        tracing::info!(account = keeper.account(), owner, "authorised");
        let by = if who == Who::Operator { OPERATOR } else { STRANGER };
        self.note(by, Action::Authorise, named, "ok");
        self.keep_also((who, by), named, grant).await;
        // The last run's outcome is out of date.
        self.floor.forget();
        Ok(kept)
    }

    /// Stores the further tokens of a consent, each as an account of its own; where `who` is not the operator, only accounts
    /// that are free. `by` is the actor of the audit.
    pub(super) async fn keep_also(&self, (who, by): (Who, &str), of: &Named, grant: &Record) {
        let sent_at = grant.tokens.as_ref().map(|tokens| tokens.obtained_at).unwrap_or_default();
        for (account, answer) in also(of.connection.provider(), &of.account, grant) {
            let named = Named { connection: Arc::clone(&of.connection), account };
            let account = &*named.account;
            let keeper = match named.connection.keepers.get(account) {
                Ok(keeper) => keeper,
                Err(err) => {
                    tracing::warn!(account, error = %err, "a further token of the consent is not kept");
                    continue;
                }
            };
            let further = keeper.grant(answer, sent_at);
            let kept = match who {
                Who::Operator => Ok(keeper.take(&further).await),
                Who::Anyone | Who::Caller => keeper.take_where_free(&further).await,
            };
            match kept {
                Ok(_) => {
                    tracing::info!(account, "authorised");
                    self.note(by, Action::Authorise, &named, "ok");
                }
                Err(Taken) => tracing::warn!(account, "a further token of the consent is not kept: one is there"),
            }
        }
    }

    fn ask(&self, asked: &Asked, named: &Named, concerns: &[Concern], new: &Record) -> Response {
        let csrf = Csrf::issue(&self.key, &self.jar, &asked.headers);
        let (Some(csrf), Some(grant), true) = (csrf, self.seal(named, new), asked.wants_html()) else {
            let words = (
                "Something is not as before",
                "the new grant is another person's, or allows less than the one that is there; nothing was changed",
                "Authorise in a browser, which asks whether to replace it.",
            );
            return asked.problem(self, &problem("would_replace", StatusCode::FORBIDDEN, words));
        };
        let provider = named.connection.provider().title.as_str();
        let page = Confirm { base: &self.base, provider, concerns, grant: &grant, csrf: &csrf.token };
        respond::page(Page::from(&page), csrf.cookie)
    }

    fn seal(&self, named: &Named, record: &Record) -> Option<String> {
        let ends_at = self.clock.now().checked_add(LIFETIME).ok()?;
        let record = STANDARD.encode(record.to_json());
        let (connection, account) = (named.connection.name().to_owned(), named.account.clone());
        let waiting = Waiting { connection, account, ends_at, record };
        self.key.seal(PURPOSE, &serde_json::to_vec(&waiting).ok()?).ok()
    }

    fn open(&self, grant: &str) -> Option<(Waiting, Record)> {
        let waiting: Waiting = serde_json::from_slice(&self.key.open(PURPOSE, grant)?).ok()?;
        let record = Record::from_json(&STANDARD.decode(&waiting.record).ok()?).ok()?;
        (self.clock.now() < waiting.ends_at).then_some((waiting, record))
    }

    fn waits_for(&self, waiting: &Waiting) -> Option<Named> {
        let connection = Arc::clone(self.connections.get(&waiting.connection)?);
        Some(Named { connection, account: waiting.account.clone() })
    }

    fn no_grant(&self, asked: &Asked) -> Response {
        let words = (
            "That took too long",
            "the new grant was confirmed before, or waited for more than ten minutes",
            "Begin again at the enable page.",
        );
        let problem = problem("state_expired", StatusCode::BAD_REQUEST, words);
        asked.problem(self, &problem.with_link("/enable", "Begin again"))
    }
}
