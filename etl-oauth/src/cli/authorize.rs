use std::{io::IsTerminal as _, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    Exit, Failure, Outcome,
    arguments::{Authorize, Target},
    print, print_json, qr,
    remote::Remote,
    status,
};
use token_keeper::store::DEFAULT_ACCOUNT;

/// How often the function is asked whether the account is authorised.
const PAUSE: Duration = Duration::from_secs(2);

/// `authorize`: prints where a person authorises, and waits until the account has new tokens.
pub(super) async fn authorize(wish: &Authorize) -> Outcome {
    let (target, account) = (&wish.target, wish.target.account());
    let remote = Remote::new(target)?;
    let before = status::account(&remote, target).await?;
    if !wish.again && is_authorised(&before) {
        return Ok(report(wish, &before, "is authorised already; --again replaces its tokens"));
    }
    // What the provider is asked by depends on its grant: a code for any device, a browser, or no person at all.
    match remote.begin(target).await? {
        Some(answer) if answer["user_code"].is_string() => invite(target.shape.json, &answer),
        Some(_) => {
            return Ok(report(wish, &status::account(&remote, target).await?, "is authorised; no person was needed"));
        }
        None => lead(target.shape.json, account, &link(&remote, target)),
    }
    let after = wait(&remote, target, &before, wish.timeout).await?;
    Ok(report(wish, &after, "is authorised"))
}

/// To the enable page, in a browser that comes back there.
fn lead(as_json: bool, account: &str, link: &str) {
    if as_json {
        return print_json(&json!({ "account": account, "enable_url": link }));
    }
    print(&format!("Open this in a browser, and allow access:\n\n  {link}\n"));
    picture(link);
}

/// To the provider, on any device, with a code (RFC 8628 §3.3).
fn invite(as_json: bool, invitation: &Value) {
    if as_json {
        return print_json(invitation);
    }
    let word = |name: &str| crate::format::cut(invitation[name].as_str().unwrap_or_default(), crate::format::LONGEST);
    let (code, place, whole) = (word("user_code"), word("verification_uri"), word("verification_uri_complete"));
    print(&format!("On any device, open\n\n  {place}\n\nand type the code\n\n  {code}\n"));
    picture(if whole.is_empty() { &place } else { &whole });
}

/// For a phone, on a terminal alone.
fn picture(link: &str) {
    if std::io::stdout().is_terminal()
        && let Some(code) = qr::code(link)
    {
        print(&code);
    }
}

fn link(remote: &Remote, target: &Target) -> String {
    let enable = remote.page("/enable");
    if target.account() == DEFAULT_ACCOUNT && target.connection.is_none() {
        return enable;
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(target.fields()).finish();
    format!("{enable}?{query}")
}

/// Has tokens that work.
fn is_authorised(account: &Value) -> bool {
    matches!(account["state"].as_str(), Some("enabled" | "degraded"))
}

/// Until the account has been authorised once more than before. A renewal in between is none; a function that does not count
/// authorisations is known by newer tokens.
async fn wait(remote: &Remote, target: &Target, before: &Value, timeout: Duration) -> Result<Value, Failure> {
    let deadline = Instant::now() + timeout;
    let counted = |account: &Value| {
        ["authorisations", "generation"].iter().find_map(|count| account[count].as_u64()).unwrap_or(0)
    };
    while Instant::now() < deadline {
        sleep(PAUSE.min(timeout)).await;
        match status::account(remote, target).await {
            Ok(now) if is_authorised(&now) && counted(&now) > counted(before) => return Ok(now),
            Ok(now) if now["device"]["failure"].is_string() => {
                let why = now["device"]["failure"].as_str().unwrap_or_default();
                return Err(Failure::new(
                    Exit::InVain,
                    "not_allowed",
                    why,
                    "Ask for another code: etl-oauth authorize.",
                ));
            }
            // A gateway that restarts is no reason to give up while a person is at the provider.
            Ok(_) | Err(Failure { exit: Exit::Failed, .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    let message = format!("account {} was not authorised in time", target.account());
    Err(Failure::new(
        Exit::InVain,
        "timeout",
        message,
        "The link stays good: open it, and ask again by `etl-oauth status`.",
    ))
}

fn report(wish: &Authorize, account: &Value, words: &str) -> Exit {
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
