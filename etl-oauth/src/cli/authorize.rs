use std::{io::IsTerminal as _, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use url::form_urlencoded::byte_serialize;

use super::{Exit, Failure, Outcome, arguments::Authorize, print, print_json, qr, remote::Remote, status};
use crate::store::DEFAULT_ACCOUNT;

/// How often the function is asked whether somebody has been there.
const PAUSE: Duration = Duration::from_secs(2);

/// `authorize`: prints the link, and waits until a person has followed it.
pub(super) async fn authorize(wish: &Authorize) -> Outcome {
    let (target, account) = (&wish.target, wish.target.account());
    let remote = Remote::new(target)?;
    let before = status::account(&remote, account).await?;
    if !wish.again && is_authorised(&before) {
        return Ok(told(wish, &before, "is authorised already; --again replaces its tokens"));
    }
    let link = link(&remote, account);
    if target.shape.json {
        print_json(&json!({ "account": account, "enable_url": link }));
    } else {
        print(&format!("Open this in a browser, and allow access:\n\n  {link}\n"));
        if std::io::stdout().is_terminal()
            && let Some(code) = qr::code(&link)
        {
            print(&code);
        }
    }
    let after = wait(&remote, account, &before, wish.timeout).await?;
    Ok(told(wish, &after, "is authorised"))
}

fn link(remote: &Remote, account: &str) -> String {
    let enable = remote.page("/enable");
    if account == DEFAULT_ACCOUNT {
        return enable;
    }
    format!("{enable}?account={}", byte_serialize(account.as_bytes()).collect::<String>())
}

/// Has tokens that work.
fn is_authorised(account: &Value) -> bool {
    matches!(account["state"].as_str(), Some("enabled" | "degraded"))
}

/// Until the account is authorised with tokens that are newer than those before.
async fn wait(remote: &Remote, account: &str, before: &Value, timeout: Duration) -> Result<Value, Failure> {
    let deadline = Instant::now() + timeout;
    let generation = |account: &Value| account["generation"].as_u64().unwrap_or(0);
    while Instant::now() < deadline {
        sleep(PAUSE.min(timeout)).await;
        match status::account(remote, account).await {
            Ok(now) if is_authorised(&now) && generation(&now) > generation(before) => return Ok(now),
            // A gateway that restarts is no reason to give up while a person is at the provider.
            Ok(_) | Err(Failure { exit: Exit::Failed, .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    let message = format!("nobody has authorised account {account} in time");
    Err(Failure::new(
        Exit::InVain,
        "timeout",
        message,
        "The link stays good: open it, and ask again by `etl-oauth status`.",
    ))
}

fn told(wish: &Authorize, account: &Value, words: &str) -> Exit {
    if wish.target.shape.json {
        print_json(account);
    } else {
        print(&format!(
            "Account {} {words}; its access token: {}.",
            wish.target.account(),
            status::end(account["expires_at"].as_str())
        ));
    }
    status::exit(account)
}
