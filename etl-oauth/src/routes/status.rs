//! `/status`: where everything stands, for the operator.

use std::time::Duration;

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::Value;

use super::{
    App, State as AppState, flash,
    respond::{self, Asked, problem},
    run_history::History,
};
use crate::{
    format::{count, whole},
    guard::{Csrf, Endpoint},
    pages::{self, Account, Page, RenewalRow, Status, StatusPage, Verdict},
};
use token_keeper::{
    renewal::{DAMAGED, Keeper, RECORD_DAMAGED},
    store::DEFAULT_ACCOUNT,
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
    app.admit(Endpoint::Status, &asked, DEFAULT_ACCOUNT, "").await?;
    let status = app.status().await;
    let csrf = Csrf::issue(&app.key, &app.jar, &asked.headers);
    let (Some(csrf), true) = (csrf, asked.wants_html()) else {
        return Ok(respond::json(StatusCode::OK, &app.with_progress(&status)));
    };
    let notice: Option<String> = flash::find(&app, &asked.headers, NOTICE);
    let notice = notice.or_else(|| app.progress_words(&status));
    let page = Page::from(&StatusPage {
        base: &app.base,
        provider: &app.config.provider.title,
        job: app.config.job.name(),
        status: &status,
        authorize_url: app.authority.provider().authorize_url.as_ref(),
        unattended: app.config.provider.grant.asks_again(),
        notice: notice.as_deref(),
        remedy: app.config.provider.refresh_token_remedy.as_deref(),
        csrf: &csrf.token,
        now: app.clock.now(),
    });
    let read = flash::forget(&app, &asked.headers, NOTICE);
    Ok(respond::page(page, csrf.cookie.into_iter().chain(read)))
}

impl App {
    /// The status, and how far each account's job has got.
    fn with_progress(&self, status: &Status) -> Value {
        // Structures of our own: nothing of them can fail to serialise.
        let mut json = serde_json::to_value(status).unwrap_or_default();
        for account in json["accounts"].as_array_mut().into_iter().flatten() {
            let progress = self.progress.of(account["account"].as_str().unwrap_or_default());
            if !progress.is_empty() {
                account["progress"] = serde_json::to_value(progress).unwrap_or_default();
            }
        }
        json
    }

    /// The same in words.
    fn progress_words(&self, status: &Status) -> Option<String> {
        let all = status.accounts.iter().map(|account| self.progress.of(&account.account));
        let words = all.flatten().map(|(name, step)| {
            let end = if step.done { "" } else { " so far" };
            format!("{name}: {}{end}", count(step.records, "record"))
        });
        let words: Vec<String> = words.collect();
        (!words.is_empty()).then(|| format!("The newest run has copied {}.", words.join(", ")))
    }

    async fn status(&self) -> Status {
        let keepers = self.keepers.all().await;
        let store = pages::Store { kind: self.config.store.clone(), ok: keepers.iter().all(Keeper::is_store_ok) };
        let mut accounts = Vec::with_capacity(keepers.len());
        for keeper in &keepers {
            accounts.push(self.account(keeper).await);
        }
        let unattended = self.config.provider.grant.asks_again();
        let verdict = Verdict::of(&store, &accounts, unattended, self.clock.now());
        Status { verdict, provider: self.config.provider.name.clone(), store, accounts }
    }

    async fn account(&self, keeper: &Keeper) -> Account {
        let stored = keeper.current();
        let record = stored.as_ref().map(|stored| &stored.record);
        let tokens = record.and_then(|record| record.tokens.as_ref());
        let health = record.map(|record| &record.health);
        let renewal = health.and_then(|health| health.last_renewal.as_ref());
        let renewal_of = |last: &token::LastRenewal| RenewalRow { at: whole(last.at), outcome: last.outcome.clone() };
        let renewals = keeper.history().iter().map(renewal_of).collect();
        self.histories.add(keeper.account(), History { renewals, ..History::default() });
        let History { runs, renewals } = self.histories.of(keeper.account()).await;
        let wanted = self.config.provider.scope.join(" ");
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
