use super::*;
use crate::pages::{Problem, RunRow};

const NOW: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn at(time: &str) -> Option<Timestamp> {
    Some(format!("2026-11-{time}:00Z").parse().unwrap())
}

fn account(state: State) -> Account {
    Account {
        connection: "default".into(),
        account: "default".into(),
        who: None,
        state,
        generation: 3,
        scope: None,
        wanted_scope: None,
        expires_at: at("21T12:59"),
        refresh_token: true,
        refresh_expires_at: None,
        last_renewal: None,
        next_renewal_at: at("21T12:58"),
        last_run: None,
        unsaved: false,
        error: None,
        renewals: Vec::new(),
        runs: Vec::new(),
        authorisations: 1,
        claims: None,
        device: None,
    }
}

fn trouble(error: &str) -> Option<Problem> {
    Some(Problem {
        error: error.into(),
        message: "the reason".into(),
        next: String::new(),
        reason: None,
        status: http::StatusCode::OK,
        title: String::new(),
        link: None,
    })
}

fn of(ok: bool, accounts: &[Account], unattended: bool) -> (Level, &'static str, String) {
    let verdict = Verdict::of(&Store { kind: "file".into(), ok }, accounts, unattended, now());
    (verdict.level, verdict.code, verdict.message)
}

#[test]
fn o8_the_verdict_is_true_in_every_state() {
    let base = account;
    let run = RunRow { at: now(), outcome: "api_error".into(), duration_ms: 5 };
    let damaged = Account { error: trouble("record_damaged"), expires_at: None, ..base(State::Degraded) };
    let unsaved = Account { unsaved: true, ..base(State::Degraded) };
    let never = Account { generation: 0, ..base(State::Disabled) };
    for (account, unattended, level, code, words) in [
        (base(State::Enabled), false, Level::Ok, "connected", "All is well"),
        (base(State::Disabled), false, Level::Warning, "not_connected", "nothing runs until a person connects"),
        (never, true, Level::Ok, "not_begun", "the first run gets one"),
        (base(State::Disabled), true, Level::Warning, "not_connected", "Not connected"),
        (base(State::NeedsAuthorisation), false, Level::Critical, "needs_authorisation", "until a person authorises"),
        (unsaved, false, Level::Critical, "not_saved", "in memory alone"),
        (damaged, false, Level::Critical, "record_damaged", "The reason."),
        (
            Account { error: trouble("rate_limited"), ..base(State::Degraded) },
            false,
            Level::Warning,
            "degraded",
            "until 21 Nov 2026, 12:59 UTC, and renewing fails. The reason.",
        ),
        (
            Account { expires_at: at("21T11:59"), ..base(State::Degraded) },
            false,
            Level::Critical,
            "no_token",
            "no token that works now",
        ),
        (
            Account { refresh_token: false, ..base(State::Enabled) },
            false,
            Level::Warning,
            "no_refresh_token",
            "It stops in 59 minutes (21 Nov 2026, 12:59 UTC), unless a person authorises it again before: there is no \
             refresh token.",
        ),
        (
            Account { refresh_token: false, expires_at: at("21T11:00"), ..base(State::Enabled) },
            false,
            Level::Critical,
            "no_refresh_token",
            "The access token has ended",
        ),
        (
            Account { refresh_token: false, expires_at: None, ..base(State::Enabled) },
            false,
            Level::Ok,
            "connected",
            "if the provider ends it, a person must authorise it again",
        ),
        (Account { refresh_token: false, ..base(State::Enabled) }, true, Level::Ok, "connected", "All is well"),
        (
            Account { refresh_expires_at: at("22T12:00"), next_renewal_at: at("23T12:00"), ..base(State::Enabled) },
            false,
            Level::Warning,
            "grant_ends",
            "It stops in 24 hours",
        ),
        (
            Account { refresh_expires_at: at("22T12:00"), ..base(State::Enabled) },
            false,
            Level::Ok,
            "connected",
            "All is well",
        ),
        (
            Account { last_run: Some(run), ..base(State::Enabled) },
            false,
            Level::Warning,
            "job_failed",
            "the last run of the job failed: api error",
        ),
    ] {
        let (found, name, message) = of(true, &[account], unattended);
        assert_eq!((found, name), (level, code), "{message}");
        assert!(message.contains(words), "{words}\n--\n{message}");
    }
}

#[test]
fn o1_a_store_that_takes_nothing_is_critical_whatever_the_accounts_say() {
    let (level, code, message) = of(false, &[account(State::Enabled)], false);
    assert_eq!((level, code), (Level::Critical, "store_unavailable"));
    assert!(message.contains("Do not restart"), "{message}");
    assert_eq!(of(false, &[account(State::NeedsAuthorisation)], false).1, "needs_authorisation");
}

#[test]
fn the_worst_account_is_named_where_there_are_several() {
    let shop = Account { account: "shop".into(), ..account(State::NeedsAuthorisation) };
    let (level, _, message) = of(true, &[account(State::Enabled), shop], false);
    assert!(level == Level::Critical && message.starts_with("Account shop: Nothing runs"), "{message}");
    assert_eq!(of(true, &[account(State::Enabled), account(State::Enabled)], false).0, Level::Ok);
}
