use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Exit, Outcome, arguments::Revoke, print, print_json, remote::Remote};

/// Between two looks at how far the function has got.
const PAUSE: Duration = Duration::from_millis(500);

/// Revokes one account, or all.
pub(super) async fn revoke(wish: &Revoke) -> Outcome {
    if wish.all { all(wish).await } else { one(wish).await }
}

async fn one(wish: &Revoke) -> Outcome {
    let target = &wish.target;
    let answer = Remote::new(target)?.post("/revoke", target).await?;
    let (provider, store) = (&answer["provider"], &answer["store"]);
    // The function answers both halves, whichever failed.
    let whole = store == "deleted" && (provider == "revoked" || provider == "not_supported");
    if target.shape.json {
        print_json(&answer);
    } else {
        let word = |half: &Value| half.as_str().unwrap_or("unknown").replace('_', " ");
        let (account, provider, store) = (target.account(), word(provider), word(store));
        print(&format!("Account {account}: at the provider {provider}; in the store {store}."));
    }
    Ok(if whole { Exit::Done } else { Exit::Failed })
}

/// Has all accounts revoked, and follows that until none is left to be tried.
async fn all(wish: &Revoke) -> Outcome {
    let remote = Remote::new(&wish.target)?;
    let path = if wish.force { "/revoke?all=true&force=true" } else { "/revoke?all=true" };
    let begun = remote.post_all(path).await?;
    if !wish.target.shape.json {
        print(&format!("Revoking accounts: {}.", begun["revoking"]));
    }
    let deadline = Instant::now() + wish.timeout;
    let report = loop {
        let report = remote.get("/revoke").await?;
        if report["left"] == 0 || Instant::now() >= deadline {
            break report;
        }
        tokio::time::sleep(PAUSE).await;
    };
    if wish.target.shape.json {
        print_json(&report);
    } else {
        print(&words(&report));
    }
    Ok(exit(&report))
}

/// Whether every account has lost its tokens.
fn exit(report: &Value) -> Exit {
    let failed = report["failed"].as_array().is_some_and(|failed| !failed.is_empty());
    if report["left"] == 0 && !failed { Exit::Done } else { Exit::Degraded }
}

fn words(report: &Value) -> String {
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    let mut lines = vec![format!(
        "Revoked: {}. Deleted here alone, since the provider has no way to revoke: {}. Left: {}.",
        count("revoked"),
        count("impossible"),
        count("left")
    )];
    for failed in report["failed"].as_array().into_iter().flatten() {
        let word = |name: &str| failed[name].as_str().unwrap_or_default();
        lines.push(format!("Not revoked: {}/{}: {}", word("connection"), word("account"), word("error")));
    }
    if exit(report) != Exit::Done {
        lines.push("Their tokens are still there. `etl-oauth revoke --all --force` deletes them.".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_exit_code_is_6_where_some_are_not_revoked() {
        let failed = json!([{ "connection": "default", "account": "ada", "error": "the provider cannot answer" }]);
        for (report, wanted) in [
            (json!({ "left": 0, "revoked": 2, "impossible": 1, "failed": [] }), Exit::Done),
            (json!({ "left": 1, "revoked": 2, "impossible": 0, "failed": [] }), Exit::Degraded),
            (json!({ "left": 0, "revoked": 2, "impossible": 0, "failed": failed }), Exit::Degraded),
        ] {
            assert_eq!(exit(&report), wanted, "{report}");
        }
        let text = words(&json!({ "left": 0, "revoked": 2, "impossible": 0, "failed": failed }));
        assert!(text.contains("default/ada: the provider cannot answer") && text.contains("--force"), "{text}");
    }
}
