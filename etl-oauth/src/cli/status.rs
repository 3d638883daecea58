use jiff::Timestamp;
use serde_json::Value;

use super::{Exit, Failure, Outcome, arguments::Target, print, print_json, remote::Remote};
use crate::format::{moment, relative};

/// `status`: every account, or the one that is asked for.
pub(super) async fn show(target: &Target) -> Outcome {
    let mut status = Remote::new(target)?.get(&path(target)).await?;
    if let (Some(name), Some(accounts)) = (&target.account, status["accounts"].as_array_mut()) {
        accounts.retain(|account| account["account"] == **name);
        if accounts.is_empty() {
            let message = format!("there is no account {name}");
            return Err(Failure::new(Exit::NeedsPerson, "no_account", message, "Authorise it: etl-oauth authorize."));
        }
    }
    if target.shape.json {
        print_json(&status);
    } else {
        print(words(&status, Timestamp::now()).trim_end());
    }
    Ok(worst(&status))
}

/// The route, for one connection or all.
fn path(target: &Target) -> String {
    match &target.connection {
        None => "/status".to_owned(),
        Some(name) => {
            let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("connection", name).finish();
            format!("/status?{query}")
        }
    }
}

/// One account of the answer.
pub(super) async fn account(remote: &Remote, target: &Target) -> Result<Value, Failure> {
    let status = remote.get(&path(target)).await?;
    Ok(accounts(&status).find(|account| account["account"] == target.account()).cloned().unwrap_or(Value::Null))
}

/// What an account's state means for the exit code. One that is not listed has never been authorised.
pub(super) fn exit(account: &Value) -> Exit {
    match account["state"].as_str() {
        Some("enabled") => Exit::Done,
        Some("degraded") => Exit::Degraded,
        _ => Exit::NeedsPerson,
    }
}

fn worst(status: &Value) -> Exit {
    let exits = accounts(status).map(exit);
    // A function that works and will not for long, or whose store takes nothing, is not well.
    let well = status["store"]["ok"] != false && matches!(status["verdict"]["level"].as_str(), None | Some("ok"));
    let exits = exits.chain((!well).then_some(Exit::Degraded));
    let worst =
        exits.max_by_key(|exit| [Exit::Done, Exit::Degraded, Exit::NeedsPerson].iter().position(|one| one == exit));
    worst.filter(|_| accounts(status).next().is_some()).unwrap_or(Exit::NeedsPerson)
}

fn accounts(status: &Value) -> impl Iterator<Item = &Value> {
    status["accounts"].as_array().into_iter().flatten()
}

/// "ends in 59 minutes (21 Nov 2026, 16:00 UTC)"
pub(super) fn end(at: Option<&str>) -> String {
    match at.and_then(|at| at.parse().ok()) {
        Some(at) => format!("ends {}", when(at, Timestamp::now())),
        None => "no end is known".into(),
    }
}

fn when(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", relative(at, now), moment(at))
}

fn words(status: &Value, now: Timestamp) -> String {
    let word = |value: &Value| crate::format::cut(value.as_str().unwrap_or("-"), crate::format::LONGEST);
    let time = |value: &Value| value.as_str().and_then(|at| at.parse().ok()).map(|at| when(at, now));
    let store = &status["store"];
    let health = if store["ok"] == true {
        "works"
    } else {
        "in trouble: do not restart the function, a token may be in memory alone"
    };
    let mut lines = Vec::new();
    if status["verdict"]["message"].is_string() {
        lines.push(word(&status["verdict"]["message"]));
    }
    let provider = status["provider"].as_str().map_or("several connections".to_owned(), |_| word(&status["provider"]));
    lines.push(format!("{provider}, tokens kept in {} ({health})", word(&store["kind"])));
    for account in accounts(status) {
        let place = account["connection"]
            .as_str()
            .filter(|name| *name != "default")
            .map_or(String::new(), |name| format!("{name} / "));
        lines.push(format!("\n{place}{}: {}", word(&account["account"]), word(&account["state"]).replace('_', " ")));
        let mut fact = |name: &str, value: String| lines.push(format!("  {name:<14} {value}"));
        if account["who"].is_string() {
            fact("signed in as", word(&account["who"]));
        }
        if account["state"] != "disabled" {
            fact("allowed to", word(&account["scope"]));
            fact(
                "access token",
                time(&account["expires_at"]).map_or("no end is known".into(), |at| format!("ends {at}")),
            );
            let known = time(&account["refresh_expires_at"]).map_or("present".into(), |at| format!("ends {at}"));
            let refresh = if account["refresh_token"] == true { known } else { "none: it cannot be renewed".into() };
            fact("refresh token", refresh);
        }
        for (name, event) in [("last renewal", &account["last_renewal"]), ("last run", &account["last_run"])] {
            if let Some(at) = time(&event["at"]) {
                let took = event["duration_ms"].as_u64().map_or(String::new(), |ms| format!(", {ms} ms"));
                fact(name, format!("{} {at}{took}", word(&event["outcome"]).replace('_', " ")));
            }
        }
        if let Some(at) = time(&account["next_renewal_at"]) {
            fact("next renewal", at);
        }
        let error = &account["error"];
        if error.is_object() {
            fact("trouble", format!("{} ({})", word(&error["message"]), word(&error["error"])));
            if let Some(reason) = error["reason"].as_str() {
                fact("reason", reason.to_owned());
            }
            fact("what to do", word(&error["next"]));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_worst_account_decides() {
        for (states, exit) in [
            (&["enabled"][..], Exit::Done),
            (&["enabled", "degraded"], Exit::Degraded),
            (&["degraded", "needs_authorisation", "enabled"], Exit::NeedsPerson),
            (&["enabled", "disabled"], Exit::NeedsPerson),
            (&[], Exit::NeedsPerson),
        ] {
            let accounts: Vec<_> = states.iter().map(|state| json!({ "state": state })).collect();
            assert_eq!(worst(&json!({ "accounts": accounts })), exit, "{states:?}");
        }
    }

    #[test]
    fn o1_a_store_that_takes_nothing_is_no_success_and_neither_is_a_grant_that_ends() {
        let accounts = json!([{ "state": "enabled" }]);
        for (status, exit) in [
            (json!({ "store": { "ok": true }, "verdict": { "level": "ok" }, "accounts": accounts }), Exit::Done),
            (json!({ "store": { "ok": false }, "accounts": accounts }), Exit::Degraded),
            (
                json!({ "store": { "ok": true }, "verdict": { "level": "warning" }, "accounts": accounts }),
                Exit::Degraded,
            ),
            (json!({ "store": { "ok": false }, "accounts": [{ "state": "disabled" }] }), Exit::NeedsPerson),
        ] {
            assert_eq!(worst(&status), exit, "{status}");
        }
    }

    #[test]
    fn the_words_say_what_the_page_says() {
        let status = json!({
            "verdict": {"level": "critical", "message": "Nothing runs until a person authorises it again."},
            "provider": "gumroad", "store": {"kind": "file", "ok": true},
            "accounts": [{
                "account": "default", "who": null, "state": "needs_authorisation", "scope": "view_sales",
                "expires_at": "2026-11-21T12:59:00Z", "refresh_token": true, "refresh_expires_at": null,
                "last_renewal": {"at": "2026-11-21T11:59:00Z", "outcome": "invalid_grant"}, "next_renewal_at": null,
                "last_run": {"at": "2026-11-21T11:58:00Z", "outcome": "ok", "duration_ms": 412},
                "error": {"error": "invalid_grant", "message": "it was refused", "next": "Authorise again."},
            }],
        });
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        assert_eq!(
            words(&status, now),
            "Nothing runs until a person authorises it again.\n\
             gumroad, tokens kept in file (works)\n\
             \n\
             default: needs authorisation\n  \
               allowed to     view_sales\n  \
               access token   ends in 59 minutes (21 Nov 2026, 12:59 UTC)\n  \
               refresh token  present\n  \
               last renewal   invalid grant 60 seconds ago (21 Nov 2026, 11:59 UTC)\n  \
               last run       ok 2 minutes ago (21 Nov 2026, 11:58 UTC), 412 ms\n  \
               trouble        it was refused (invalid_grant)\n  \
               what to do     Authorise again."
        );
    }
}
