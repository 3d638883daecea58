use serde_json::json;

use super::{Exit, Outcome, arguments::MakeLink, print, print_json, remote::Remote};
use crate::format::moment;

/// `link`: makes a connect link and prints its URL, this one time.
pub(super) async fn make(wish: &MakeLink) -> Outcome {
    let mut wanted = json!({ "account": wish.target.account(), "expires_in": wish.expires });
    let more = [
        ("connection", &wish.target.connection),
        ("expect", &wish.expect),
        ("notify", &wish.notify),
        ("return_url", &wish.return_url),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            wanted[name] = value.as_str().into();
        }
    }
    let made = Remote::new(&wish.target)?.post_json("/links", &wanted).await?;
    if wish.target.shape.json {
        print_json(&made);
        return Ok(Exit::Done);
    }
    let end = made["expires_at"].as_str().and_then(|at| at.parse().ok()).map_or("its end".to_owned(), moment);
    let url = made["url"].as_str().unwrap_or_default();
    print(&format!("Send this to the person whose account it is; it is good once, until {end}:\n\n  {url}"));
    Ok(Exit::Done)
}
