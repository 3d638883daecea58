//! `/revoke?all=true`: the tokens of all accounts are revoked. What is to be done stands in the store, so that another process
//! goes on where one was killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use axum::{extract::State, response::Response};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{sync::Notify, task::JoinSet};

use super::{
    App, State as AppState, admin,
    audit::{Action, OPERATOR},
    connection::{Connection, Named},
    document::Document,
    enable::is_taken,
    respond::{self, Asked, Posted, problem},
    status,
};
use crate::{
    format::count,
    guard::Endpoint,
    job::{JobError, JobState},
};
use token_keeper::{
    renewal::Keeper,
    store::{Key, Kind, StoreError},
    trace_context,
};

/// The kind of the plan in the store.
const PLAN: Kind = Kind::named("revocation");
/// Whose lease one replica at a time works under.
const LEASE: &str = "revoke-all";
/// How many accounts are revoked side by side.
const AT_A_TIME: usize = 8;
/// So long is an account tried whose provider does not revoke its tokens.
const TRIED_FOR: SignedDuration = SignedDuration::from_hours(1);
/// The pauses between two tries double from this to [`LONGEST`].
const FIRST: SignedDuration = SignedDuration::from_secs(2);
const LONGEST: SignedDuration = SignedDuration::from_secs(300);

/// A revocation of all accounts, as the store has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Plan {
    /// When it was asked for. Accounts that are authorised after that are not meant.
    begun_at: Option<Timestamp>,
    /// The one connection that it is for.
    connection: Option<String>,
    /// Tokens go whatever the provider says.
    force: bool,
    /// The accounts of each connection.
    parts: BTreeMap<String, Part>,
    failed: Vec<Failed>,
    done: bool,
}

/// The accounts of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Part {
    /// How many there were.
    total: u64,
    /// How many are still to be revoked, those that failed and are tried again among them.
    left: u64,
    /// The provider has no way to revoke tokens: they are only deleted here.
    impossible: bool,
}

/// Connection and account.
type Place = (String, String);

/// An account whose tokens are still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failed {
    connection: String,
    account: String,
    error: String,
    tries: u32,
    next_at: Timestamp,
    /// It is tried no more.
    given_up: bool,
}

impl Plan {
    /// Whether the account has tokens from before the revocation.
    fn means(&self, keeper: &Keeper) -> bool {
        let decided_at = keeper.current().and_then(|current| current.record.decided_at);
        let is_newer = decided_at.zip(self.begun_at).is_some_and(|(at, begun)| at > begun);
        is_taken(keeper) && !is_newer
    }

    /// Takes in what a try came to.
    fn note(&mut self, tried: &[(Place, Result<(), String>)], now: Timestamp) {
        for ((connection, account), result) in tried {
            let before = self.failed.iter().position(|failed| failed.is(connection, account));
            let before = before.map(|at| self.failed.remove(at));
            let part = self.parts.entry(connection.clone()).or_default();
            let Err(error) = result else {
                part.left = part.left.saturating_sub(1);
                continue;
            };
            let tries = before.map_or(0, |before| before.tries).saturating_add(1);
            let pause = (FIRST * (1 << (tries - 1).min(16))).min(LONGEST);
            let next_at = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
            let given_up = self.begun_at.is_none_or(|begun| next_at.duration_since(begun) >= TRIED_FOR);
            part.left = part.left.saturating_sub(u64::from(given_up));
            let (connection, account, error) = (connection.clone(), account.clone(), error.clone());
            self.failed.push(Failed { connection, account, error, tries, next_at, given_up });
        }
    }

    /// The JSON of `GET /revoke`.
    fn tell(&self) -> serde_json::Value {
        let (mut left, mut revoked, mut impossible) = (0, 0, 0);
        for (connection, part) in &self.parts {
            let given_up = self.failed.iter().filter(|failed| failed.given_up && failed.connection == *connection);
            let over = part.total.saturating_sub(part.left).saturating_sub(given_up.count() as u64);
            left += part.left;
            if part.impossible {
                impossible += over;
            } else {
                revoked += over;
            }
        }
        let failed = self
            .failed
            .iter()
            .map(|failed| json!({ "connection": failed.connection, "account": failed.account, "error": failed.error }));
        let failed: Vec<_> = failed.collect();
        json!({ "left": left, "revoked": revoked, "impossible": impossible, "failed": failed })
    }
}

impl Failed {
    fn is(&self, connection: &str, account: &str) -> bool {
        self.connection == connection && self.account == account
    }
}

/// Wakes the worker of this replica.
#[derive(Debug, Default)]
pub(super) struct Bell(Notify);

/// `POST /revoke`: one account, or with `all=true` in the query all of them.
pub(super) async fn begin(state: AppState, asked: Asked, form: Posted) -> Result<Response, Response> {
    let query = |name: &str| {
        let all = url::form_urlencoded::parse(asked.uri.query().unwrap_or_default().as_bytes());
        all.filter(|(field, _)| field == name).map(|(_, value)| value.into_owned()).collect::<Vec<_>>()
    };
    // What cannot be read must not be taken for less than it is meant.
    let flag = |name: &str| match query(name).as_slice() {
        [] => Some(false),
        [value] => value.parse::<bool>().ok(),
        _ => None,
    };
    let flags = flag("all").zip(flag("force"));
    let connection = query("connection").into_iter().next();
    if matches!(flags, Some((false, _))) && connection.as_ref().is_none_or(|name| !name.is_empty()) {
        return admin::revoke(state, asked, form).await;
    }
    let State(app) = state;
    app.admit_form(Endpoint::Operate, &asked, form).await?;
    let Some((_, force)) = flags else {
        let words = ("Nothing was revoked", "all and force are true or false, once each", "Correct the query.");
        return Err(asked.problem(&app, &problem("bad_request", StatusCode::BAD_REQUEST, words)));
    };
    if let Some(name) = &connection {
        app.connection_named(&asked, name)?;
    }
    let begun = app.begin_revocation(connection, force).await;
    let number = begun.map_err(|err| {
        let words = (
            "Nothing was revoked",
            &*err.to_string(),
            "Try again once the store can be used: what is to be revoked must be written down first.",
        );
        asked.problem(&app, &problem("store_unavailable", StatusCode::SERVICE_UNAVAILABLE, words))
    })?;
    if asked.wants_html() {
        let accounts = count(number, "account");
        return Ok(status::lead_back(&app, &format!("{accounts} will be revoked; GET /revoke says how far that is")));
    }
    Ok(respond::json(StatusCode::ACCEPTED, &json!({ "revoking": number })))
}

/// `GET /revoke`: how far the last revocation of all accounts has got.
pub(super) async fn progress(State(app): AppState, asked: Asked) -> Result<Response, Response> {
    app.admit_to_function(Endpoint::Status, &asked, "").await?;
    let plan = app.plan().await.map_err(|err| {
        let words = ("That cannot be read", &*err.to_string(), "Try again once the store can be used.");
        asked.problem(&app, &problem("store_unavailable", StatusCode::SERVICE_UNAVAILABLE, words))
    })?;
    if plan.begun_at.is_some() && !plan.done {
        // The replica that began it may have gone.
        app.bell.0.notify_one();
    }
    Ok(respond::json(StatusCode::OK, &plan.tell()))
}

impl App {
    async fn plan(&self) -> Result<Plan, StoreError> {
        Document { store: &self.ledgers, key: &Key::default().of_kind(PLAN) }.read().await
    }

    /// Writes what `change` makes of the plan.
    async fn change_plan(&self, change: impl FnMut(&mut Plan) + Send) -> Result<Plan, StoreError> {
        Document { store: &self.ledgers, key: &Key::default().of_kind(PLAN) }.update(change).await
    }

    /// Writes down that all accounts are to be revoked, and gives how many there are.
    async fn begin_revocation(&self, connection: Option<String>, force: bool) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let mut begun = Plan { begun_at: Some(now), connection, force, ..Plan::default() };
        for (connection, _) in self.left(&begun).await {
            let part = begun.parts.entry(connection.name().to_owned()).or_default();
            (part.total, part.left) = (part.total + 1, part.left + 1);
        }
        self.change_plan(|plan| *plan = begun.clone()).await?;
        self.links.end_every(begun.connection.as_deref(), now).await?;
        let total = begun.parts.values().map(|part| part.total).sum();
        tracing::warn!(accounts = total, force, "the operator revokes all accounts");
        self.note_of_all(OPERATOR, Action::Revoke, "ok");
        self.bell.0.notify_one();
        Ok(total)
    }

    /// Whether an authorisation that was begun at that moment is over, since all accounts were revoked after it.
    pub(super) async fn is_revoked_since(&self, named: &Named, begun: Timestamp) -> bool {
        self.plan().await.is_ok_and(|plan| {
            let is_meant = plan.connection.as_deref().is_none_or(|connection| connection == named.connection.name());
            is_meant && plan.begun_at.is_some_and(|at| at > begun)
        })
    }

    /// Works on a revocation of all accounts: one that an earlier process left, and those that are asked for. Nothing is begun
    /// by itself.
    pub(super) async fn follow_revocations(self: Arc<Self>) {
        self.bell.0.notify_one();
        loop {
            self.bell.0.notified().await;
            let mut pause = Duration::from_secs(1);
            loop {
                match trace_context::acting(OPERATOR, self.work()).await {
                    Ok(()) | Err(JobError::Busy) => break,
                    // Mostly that the store is away, which others report: there may be nothing to be revoked.
                    Err(err) => tracing::debug!(error = %err, "revoking all accounts is interrupted; retrying"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(60));
            }
        }
    }

    /// Revokes until nothing is left to be tried.
    async fn work(self: &Arc<Self>) -> Result<(), JobError> {
        let plan = self.plan().await?;
        if plan.begun_at.is_none() || plan.done {
            return Ok(());
        }
        // Held until the work is done; another replica goes on when this one has died.
        let turn = JobState::new(Arc::clone(&self.ledgers), &Key::account(LEASE)?)
            .turn(self.home().config.policy.lease)
            .await?;
        let (mut listed, mut left) = (None, Vec::new());
        loop {
            turn.check()?;
            let plan = self.plan().await?;
            // All accounts are read once a plan, and each again before it is revoked.
            if listed != plan.begun_at {
                left = self.recount(&plan).await?;
                listed = plan.begun_at;
            }
            let waits: BTreeMap<(&str, &str), Timestamp> =
                plan.failed.iter().map(|failed| ((&*failed.connection, &*failed.account), failed.next_at)).collect();
            let due_at = |(connection, keeper): &(Arc<Connection>, Keeper)| {
                waits.get(&(connection.name(), keeper.account())).copied().unwrap_or(Timestamp::MIN)
            };
            let now = self.clock.now();
            let batch: Vec<_> = left.extract_if(.., |one| due_at(one) <= now).take(AT_A_TIME).collect();
            if batch.is_empty() {
                let Some(next) = left.iter().map(due_at).min() else { break };
                let pause = Duration::try_from(next.duration_since(now)).unwrap_or_default();
                tokio::time::sleep(pause.max(Duration::from_millis(50))).await;
                continue;
            }
            let tried = self.revoke_batch(&plan, &batch).await;
            let now = self.clock.now();
            let plan = self.change_plan(|plan| plan.note(&tried, now)).await?;
            left.extend(batch.into_iter().filter(|(connection, keeper)| {
                plan.failed.iter().any(|failed| !failed.given_up && failed.is(connection.name(), keeper.account()))
            }));
        }
        let plan = self.change_plan(|plan| plan.done = true).await?;
        tracing::warn!(failed = plan.failed.len(), "all accounts are revoked, but for those that failed");
        Ok(())
    }

    /// The accounts that are still to be revoked: those with tokens from before, which were not given up.
    async fn left(&self, plan: &Plan) -> Vec<(Arc<Connection>, Keeper)> {
        let given_up: BTreeSet<(&str, &str)> = plan
            .failed
            .iter()
            .filter(|failed| failed.given_up)
            .map(|failed| (&*failed.connection, &*failed.account))
            .collect();
        let mut left = Vec::new();
        for connection in self.connections.values() {
            if plan.connection.as_deref().is_some_and(|only| only != connection.name()) {
                continue;
            }
            let mut keepers = connection.keepers.all().await;
            keepers.retain(|keeper| plan.means(keeper) && !given_up.contains(&(connection.name(), keeper.account())));
            left.extend(keepers.into_iter().map(|keeper| (Arc::clone(connection), keeper)));
        }
        left
    }

    /// The accounts that are still to be revoked, and their number in the plan: what was done before a process died is seen by
    /// the accounts themselves.
    async fn recount(&self, plan: &Plan) -> Result<Vec<(Arc<Connection>, Keeper)>, StoreError> {
        let left = self.left(plan).await;
        let mut impossible = BTreeMap::new();
        for connection in self.connections.values() {
            let cannot = match connection.authority.ready().await {
                Ok(provider) => provider.revoke_url.is_none() || !provider.grant.uses_token_endpoint(),
                Err(_) => false,
            };
            impossible.insert(connection.name().to_owned(), cannot);
        }
        let places: BTreeSet<(&str, &str)> =
            left.iter().map(|(connection, keeper)| (connection.name(), keeper.account())).collect();
        self.change_plan(|plan| {
            for (name, part) in &mut plan.parts {
                part.left = left.iter().filter(|(connection, _)| connection.name() == name).count() as u64;
                part.impossible = impossible.get(name).copied().unwrap_or(false);
            }
            plan.failed.retain(|failed| failed.given_up || places.contains(&(&*failed.connection, &*failed.account)));
        })
        .await?;
        Ok(left)
    }

    async fn revoke_batch(
        self: &Arc<Self>,
        plan: &Plan,
        batch: &[(Arc<Connection>, Keeper)],
    ) -> Vec<(Place, Result<(), String>)> {
        let (mut tasks, plan) = (JoinSet::new(), Arc::new(plan.clone()));
        for (connection, keeper) in batch.iter().cloned() {
            let (app, plan) = (Arc::clone(self), Arc::clone(&plan));
            tasks.spawn(trace_context::carry(async move {
                let named = Named { connection, account: keeper.account().to_owned() };
                keeper.sync().await;
                if !plan.means(&keeper) {
                    return ((named.connection.name().to_owned(), named.account), Ok(()));
                }
                let result = if plan.force {
                    keeper.revoke().await.store.map_err(|err| err.to_string())
                } else {
                    keeper.revoke_or_keep().await.map_err(|err| err.to_string())
                };
                app.note(OPERATOR, Action::Revoke, &named, if result.is_ok() { "ok" } else { "not_revoked" });
                let (connection, account) = (named.connection.name().to_owned(), named.account);
                if let Err(error) = &result {
                    tracing::warn!(connection, account, error, "the account is not revoked; retrying for an hour");
                }
                ((connection, account), result)
            }));
        }
        self.floor.forget();
        tasks.join_all().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_account_is_tried_at_growing_distance_for_an_hour_and_then_listed() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let part = Part { total: 3, left: 3, impossible: false };
        let parts = BTreeMap::from([("default".to_owned(), part)]);
        let mut plan = Plan { begun_at: Some(at(0)), parts, ..Plan::default() };
        let place = |account: &str| ("default".to_owned(), account.to_owned());
        let failing = [(place("c"), Err("503".to_owned()))];
        plan.note(&[(place("a"), Ok(())), (place("b"), Ok(()))], at(1));
        plan.note(&failing, at(1));
        assert_eq!(plan.failed[0].next_at, at(3));
        assert_eq!(
            plan.tell(),
            json!({ "left": 1, "revoked": 2, "impossible": 0,
                    "failed": [{ "connection": "default", "account": "c", "error": "503" }] })
        );
        let (mut now, mut tries) = (at(3), 1);
        while !plan.failed[0].given_up {
            plan.note(&failing, now);
            now = plan.failed[0].next_at;
            tries += 1;
        }
        assert!((3600..3900).contains(&now.as_second()) && (15..30).contains(&tries), "{now} {tries}");
        assert_eq!((&plan.tell()["left"], &plan.tell()["revoked"], plan.failed.len()), (&json!(0), &json!(2), 1));
        plan.parts.get_mut("default").unwrap().impossible = true;
        assert_eq!((&plan.tell()["revoked"], &plan.tell()["impossible"]), (&json!(0), &json!(2)));
    }
}
