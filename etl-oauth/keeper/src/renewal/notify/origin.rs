//! Where a notification comes from: what a receiver of many functions tells them apart by.

use serde_json::{Map, Value, json};

use super::Announcement;
use crate::token::{Secret, State};

/// The sender of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The function's name, as the gateway has it.
    pub function: String,
    /// The connection's name.
    pub connection: String,
    /// The provider's name in the configuration ("gumroad").
    pub provider: String,
    /// The page that says more: the status page, as a browser sees it.
    pub url: String,
}

impl Origin {
    /// The id of a message: the same for every try, of whatever replica, so that a receiver takes it once.
    pub(super) fn id(&self, news: &Announcement) -> String {
        let Self { function, connection, .. } = self;
        let Announcement { account, from, to, at, .. } = news;
        let told = format!("{function} {connection} {account} {} {} {at}", from.as_str(), to.as_str());
        format!("msg_{}", Secret::new(told).digest())
    }

    /// The body of a webhook with the sender in it, and the state, the failure and the severity under their own names. The
    /// text for people begins with the function and ends with the page.
    #[must_use]
    pub fn sign(&self, body: Value) -> Value {
        let Value::Object(mut body) = body else { return body };
        for name in ["text", "content"] {
            if let Some(Value::String(text)) = body.get_mut(name) {
                let words = text.strip_prefix("etl-oauth: ").unwrap_or(text);
                *text = format!("{} ({}): {words} {}", self.function, self.provider, self.url);
            }
        }
        let state = body.get("to").cloned().unwrap_or_default();
        let failure = body.get("class").cloned().filter(|_| state != State::Enabled.as_str()).unwrap_or_default();
        let severity = match state.as_str() {
            Some("needs_authorisation") => "critical",
            Some("degraded") => "warning",
            _ => "info",
        };
        let more = json!({
            "function": self.function,
            "connection": self.connection,
            "provider": self.provider,
            "url": self.url,
            "state": state,
            "failure": failure,
            "severity": severity,
        });
        let Value::Object(more) = more else { return Value::Object(body) };
        // What the news itself says is right: a token in memory alone is critical in whatever state.
        body.extend(more.into_iter().filter(|(name, _)| !body.contains_key(name)).collect::<Map<_, _>>());
        Value::Object(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            function: "shop-sales".into(),
            connection: "default".into(),
            provider: "gumroad".into(),
            url: "https://g.example/function/shop-sales/status".into(),
        }
    }

    #[test]
    fn o9_a_webhook_says_which_function_which_provider_how_bad_and_where_to_look() {
        let news = json!({
            "text": "etl-oauth: account default is needs_authorisation (was enabled): it was refused. Authorise again.",
            "account": "default", "from": "enabled", "to": "needs_authorisation", "class": "invalid_grant",
        });
        let body = origin().sign(news);
        for (name, value) in [
            ("function", "shop-sales"),
            ("connection", "default"),
            ("account", "default"),
            ("provider", "gumroad"),
            ("state", "needs_authorisation"),
            ("failure", "invalid_grant"),
            ("severity", "critical"),
            ("url", "https://g.example/function/shop-sales/status"),
        ] {
            assert_eq!(body[name], value, "{body}");
        }
        assert_eq!(
            body["text"],
            "shop-sales (gumroad): account default is needs_authorisation (was enabled): it was refused. Authorise again. \
             https://g.example/function/shop-sales/status"
        );
    }

    #[test]
    fn o9_a_recovery_is_information_without_a_failure_and_the_news_own_severity_stands() {
        let body = origin().sign(json!({ "to": "enabled", "class": null }));
        assert_eq!((&body["severity"], &body["failure"]), (&json!("info"), &Value::Null));
        let body = origin().sign(json!({ "to": "degraded", "class": "store_unavailable", "severity": "critical" }));
        assert_eq!((&body["severity"], &body["failure"]), (&json!("critical"), &json!("store_unavailable")));
    }
}
