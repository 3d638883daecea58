//! `/status`: where everything stands, for the operator.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::Value;

use super::{
    App, State as AppState,
    account_page::Wanted,
    audit::{Action, Event},
    connection::Connection,
    flash,
    respond::{self, Asked, problem},
};
use crate::{
    format::{count, whole},
    guard::{Csrf, Endpoint},
    pages::{self, Account, Page, RenewalRow, RunRow, Status, StatusPage, Verdict},
};
use token_keeper::{
    renewal::{DAMAGED, Keeper, RECORD_DAMAGED},
    token::{self, FailureKind, jwt},
};

const NOTICE: &str = "etl-oauth-notice";
const NOTICE_LIFETIME: Duration = Duration::from_secs(60);

/// Leads a browser to the page, which says there what was just done.
pub(super) fn lead_back(app: &App, notice: &str) -> Response {
    respond::see_other(&app.config.page("/status"), flash::leave(app, NOTICE, &notice, NOTICE_LIFETIME))
}

/// `GET`: as a page or as JSON.
pub(super) async fn show(State(app): AppState, asked: Asked) -> Result<Response, Response> {
    app.admit_to_function(Endpoint::Status, &asked, "").await?;
    let only = app.only(&asked)?;
    let wanted = app.wanted_accounts(&asked)?;
    let status = app.status(only, &wanted).await;
    let connection = only.unwrap_or(app.home());
    let csrf = Csrf::issue(&app.key, &app.jar, &asked.headers);
    let (Some(csrf), true) = (csrf, asked.wants_html()) else {
        return Ok(respond::json(StatusCode::OK, &app.with_progress(&status)));
    };
    let notice: Option<String> = flash::find(&app, &asked.headers, NOTICE);
    let notice = notice.or_else(|| app.progress_words(&status));
    let page = Page::from(&StatusPage {
        base: &app.base,
        provider: if only.is_some() || app.connections.len() == 1 {
            &connection.provider().title
        } else {
            &app.config.store_options.function
        },
        job: app.config.job.name(),
        status: &status,
        search: wanted.search(),
        authorize_url: connection.authority.provider().authorize_url.as_ref(),
        unattended: connection.provider().grant.asks_again(),
        notice: notice.as_deref(),
        remedy: connection.provider().refresh_token_remedy.as_deref(),
        csrf: &csrf.token,
        now: app.clock.now(),
    });
    let read = flash::forget(&app, &asked.headers, NOTICE);
    Ok(respond::page(page, csrf.cookie.into_iter().chain(read)))
}

/// The runs and the renewals among the events of an account.
fn rows(events: &[Event]) -> (Vec<RunRow>, Vec<RenewalRow>) {
    let of = |action: Action| events.iter().filter(move |event| event.action == action);
    let run = |event: &Event| RunRow {
        at: whole(event.at),
        outcome: event.outcome.clone(),
        duration_ms: event.duration_ms.unwrap_or(0),
    };
    let renewal = |event: &Event| RenewalRow { at: whole(event.at), outcome: event.outcome.clone() };
    (of(Action::Run).map(run).collect(), of(Action::Renew).map(renewal).collect())
}

impl App {
    /// The status, and how far each account's job has got.
    fn with_progress(&self, status: &Status) -> Value {
        // Structures of our own: nothing of them can fail to serialise.
        let mut json = serde_json::to_value(status).unwrap_or_default();
        for account in json["accounts"].as_array_mut().into_iter().flatten() {
            let Some(connection) = self.connections.get(account["connection"].as_str().unwrap_or_default()) else {
                continue;
            };
            let progress = connection.progress.of(account["account"].as_str().unwrap_or_default());
            if !progress.is_empty() {
                account["progress"] = serde_json::to_value(progress).unwrap_or_default();
            }
        }
        json
    }

    /// The same in words.
    fn progress_words(&self, status: &Status) -> Option<String> {
        let all = status
            .accounts
            .iter()
            .filter_map(|account| Some(self.connections.get(&account.connection)?.progress.of(&account.account)));
        let words = all.flatten().map(|(name, step)| {
            let end = if step.done { "" } else { " so far" };
            format!("{name}: {}{end}", count(step.records, "record"))
        });
        let words: Vec<String> = words.collect();
        (!words.is_empty()).then(|| format!("The newest run has copied {}.", words.join(", ")))
    }

    /// The connection that the query asks for; nothing where it names none.
    fn only(&self, asked: &Asked) -> Result<Option<&Arc<Connection>>, Response> {
        let mut query = url::form_urlencoded::parse(asked.uri.query().unwrap_or_default().as_bytes());
        let name = query.find(|(name, _)| name == "connection").map(|(_, value)| value.into_owned());
        name.map(|name| self.connection(asked, &name)).transpose()
    }

    async fn status(&self, only: Option<&Arc<Connection>>, wanted: &Wanted) -> Status {
        let found = self.find_accounts(only, wanted).await;
        let (mut accounts, mut unattended) = (Vec::with_capacity(found.accounts.len()), true);
        for (connection, keeper) in &found.accounts {
            unattended &= connection.provider().grant.asks_again();
            accounts.push(self.account(connection, keeper).await);
        }
        let store = pages::Store { kind: self.config.store.clone(), ok: found.is_store_ok };
        let verdict = Verdict::of(&store, &accounts, unattended, self.clock.now()).with_counts(&found.counts);
        let only = only.or_else(|| self.connections.values().next().filter(|_| self.connections.len() == 1));
        let provider = only.map(|only| only.provider().name.clone());
        Status { verdict, provider, store, counts: found.counts, accounts, next_cursor: found.next }
    }

    async fn account(&self, connection: &Connection, keeper: &Keeper) -> Account {
        let stored = keeper.current();
        let record = stored.as_ref().map(|stored| &stored.record);
        let tokens = record.and_then(|record| record.tokens.as_ref());
        let health = record.map(|record| &record.health);
        let renewal = health.and_then(|health| health.last_renewal.as_ref());
        let renewal_of = |last: &token::LastRenewal| RenewalRow { at: whole(last.at), outcome: last.outcome.clone() };
        let (runs, renewals) = rows(&self.audit.history(connection.name(), keeper.account()).await);
        let wanted = connection.provider().scope.join(" ");
        let error = health.and_then(|health| {
            let class = health.class?;
            let message = health.detail.clone().unwrap_or_default();
            let problem = problem(class.as_str(), StatusCode::OK, (class.as_str(), &message, class.next_step()));
            Some(problem.with_reason(health.reason.as_deref()))
        });
        let unsaved = (!keeper.is_saved()).then(|| {
            let class = FailureKind::StoreUnavailable;
            let message = "the newest token is in memory alone; it is being written again and again";
            problem(class.as_str(), StatusCode::OK, (class.as_str(), message, class.next_step()))
        });
        let damaged = keeper
            .damage()
            .map(|damage| problem(RECORD_DAMAGED, StatusCode::OK, (RECORD_DAMAGED, &damage.to_string(), DAMAGED)));
        Account {
            connection: connection.name().to_owned(),
            account: keeper.account().to_owned(),
            who: record.and_then(|record| record.owner.as_ref()).map(|owner| owner.told().to_owned()),
            state: keeper.state(),
            generation: record.map_or(0, |record| record.generation),
            scope: tokens.and_then(|tokens| tokens.scope.clone()),
            wanted_scope: Some(wanted).filter(|wanted| !wanted.is_empty()),
            expires_at: tokens.and_then(|tokens| tokens.expires_at),
            refresh_token: tokens.is_some_and(|tokens| tokens.refresh_token.is_some()),
            refresh_expires_at: tokens.and_then(|tokens| tokens.refresh_expires_at),
            authorisations: record.map_or(0, |record| record.authorisations),
            last_renewal: renewal.map(renewal_of),
            next_renewal_at: keeper.next_renewal_at(),
            last_run: runs.first().cloned(),
            unsaved: !keeper.is_saved(),
            error: unsaved.or(damaged).or(error),
            renewals,
            runs,
            claims: tokens.and_then(|tokens| jwt::claims(&tokens.access_token)),
            device: keeper.invitation().map(|invitation| pages::Invitation {
                user_code: invitation.user_code,
                verification_uri: invitation.verification_uri,
                verification_uri_complete: invitation.verification_uri_complete,
                ends_at: invitation.ends_at,
                failure: invitation.failure,
            }),
        }
    }
}
