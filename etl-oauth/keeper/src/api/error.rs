//! Errors of calls to the API.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};
use url::Url;

use super::shape;
use crate::{
    grant::network_error::describe,
    renewal::{KeeperError, RECORD_DAMAGED},
    text,
};

/// Why a call to the API brought nothing. No variant shows a query: the API may put anything into one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Its URL is not configured.
    #[error("the API's address is not known: set the variable api_url")]
    NotConfigured,
    /// There is no token to call it with.
    #[error(transparent)]
    Token(#[from] KeeperError),
    /// The API refuses a token that was just renewed.
    #[error("the API refuses the token of account {account} although it was just renewed")]
    Refused {
        /// The account.
        account: String,
    },
    /// It answered with a status that is no success.
    #[error(
        "the API answered {} to {method} {path}{}",
        status.as_u16(),
        message.as_ref().map(|words| format!(": {}", text::cut(words, text::LONGEST))).unwrap_or_default()
    )]
    Status {
        /// The status.
        status: StatusCode,
        /// The method of the request.
        method: Method,
        /// The path that was asked for.
        path: String,
        /// The reason in the API's own words, up to 2 KiB, without secrets.
        message: Option<Box<str>>,
        /// How long the API wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// Its rate limit is used up for longer than a request may wait.
    #[error("the API's rate limit of account {account} is used up for the next {} s", retry_after.as_secs().max(1))]
    Limited {
        /// The account.
        account: String,
        /// When there is more.
        retry_after: Duration,
    },
    /// It wants the token at another origin.
    #[error("the API's answer to {path} leads to another origin, where the token must not go")]
    Elsewhere {
        /// The path that was asked for.
        path: String,
    },
    /// Its paging does not come to an end, or cannot be followed.
    #[error("the pages of {path} can't be followed: {why}")]
    Paging {
        /// The path that was asked for.
        path: String,
        /// What stopped the walk.
        why: &'static str,
    },
    /// The TLS library does not start.
    #[error("the TLS library does not start")]
    NoTls,
    /// It did not answer.
    #[error("the API at {origin} {reason}")]
    Unreachable {
        /// Where it was looked for.
        origin: String,
        /// What happened: the host and the cause.
        reason: String,
        /// Whether it was too slow.
        timed_out: bool,
    },
    /// It wants a scope that the token does not have (RFC 6750 §3.1, `insufficient_scope`).
    #[error(
        "the API refuses the token of account {account} for {path}: its scope is not enough{}",
        scope.as_ref().map(|scope| format!(", {scope} is wanted")).unwrap_or_default()
    )]
    InsufficientScope {
        /// The account.
        account: String,
        /// The path that was asked for.
        path: String,
        /// The scope that the API says it wants.
        scope: Option<String>,
    },
    /// The request is none that can be sent.
    #[error("{method} {path} cannot be sent: {what}")]
    Request {
        /// The method of the request.
        method: Method,
        /// The path that was to be asked for.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// Its answer is not what was asked for.
    #[error(
        "the API's answer to {method} {path} cannot be read: {}{why}",
        field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default()
    )]
    Malformed {
        /// The method of the request.
        method: Method,
        /// The path that was asked for.
        path: String,
        /// The field that has another shape, such as `sales[3].price`; `None` where the answer is no JSON.
        field: Option<String>,
        /// What is wrong with it. A text that the API sent is not shown.
        why: String,
    },
    /// Its answer is too large to be held in memory.
    #[error("the API's answer to {path} is larger than 32 MiB")]
    TooLarge {
        /// The path that was asked for.
        path: String,
    },
    /// The token holds characters that no header can carry.
    #[error("the token of account {account} cannot be put into a header")]
    Unsendable {
        /// The account.
        account: String,
    },
}

impl ApiError {
    pub(super) fn unreachable(url: &Url, err: &reqwest::Error) -> Self {
        let what = match err {
            err if err.is_timeout() => "does not answer in time",
            err if err.is_connect() => "cannot be reached",
            _ => "broke off",
        };
        let reason = format!("{what}: {}", describe(url, err));
        Self::Unreachable { origin: url.origin().ascii_serialization(), reason, timed_out: err.is_timeout() }
    }

    /// A 403 whose challenge says that the token's scope is not enough (RFC 6750 §3.1); `None` for any other answer.
    pub(super) fn insufficient_scope(
        account: &str,
        path: String,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Self> {
        let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenge = challenges.into_iter().find(|challenge| challenge.contains("insufficient_scope"))?;
        let scope = challenge.split("scope=\"").nth(1).and_then(|rest| rest.split('"').next());
        let scope = scope.filter(|scope| !scope.is_empty()).map(|scope| text::cut(scope, 100));
        (status == StatusCode::FORBIDDEN).then(|| Self::InsufficientScope { account: account.to_owned(), path, scope })
    }

    /// An answer to `method path` that is no JSON.
    #[must_use]
    pub fn malformed(method: Method, path: String, err: &serde_json::Error) -> Self {
        Self::Malformed { method, path, field: None, why: shape::not_json(err) }
    }

    /// The API's own words, where it answered with a status that is no success.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Status { message, .. } => message.as_deref(),
            _ => None,
        }
    }

    /// The same without the API's own words, for readers who must not see what the API may put into them.
    #[must_use]
    pub fn without_message(mut self) -> Self {
        if let Self::Status { message, .. } = &mut self {
            *message = None;
        }
        self
    }

    /// How long the API wants to be left alone, where it says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Limited { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// The status for the caller that runs the job: a failure that may pass is 502, 503 or 504; 409 says that a person must act.
    /// Never a success: a scheduler that retries must see it (case E7).
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Token(
                KeeperError::Disabled { .. }
                | KeeperError::NeedsAuthorisation { .. }
                | KeeperError::NoRefreshToken { .. },
            )
            | Self::InsufficientScope { .. } => StatusCode::CONFLICT,
            Self::Token(_) | Self::Limited { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable { timed_out: true, .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// The name in JSON.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Token(KeeperError::Disabled { .. }) => "disabled",
            Self::Token(KeeperError::NeedsAuthorisation { .. }) => "needs_authorisation",
            Self::Token(KeeperError::NoRefreshToken { .. }) => "no_refresh_token",
            Self::Token(err) if err.is_damage() => RECORD_DAMAGED,
            Self::Token(KeeperError::Failed { failure, .. }) => failure.class().as_str(),
            Self::NotConfigured | Self::NoTls => "config",
            Self::Limited { .. } => "rate_limited",
            Self::Elsewhere { .. } => "other_origin",
            Self::Paging { .. } => "paging",
            Self::Refused { .. } => "token_refused",
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => "rate_limited",
            Self::Status { .. } => "api_error",
            Self::Unreachable { .. } => "api_unreachable",
            Self::Malformed { .. } | Self::TooLarge { .. } => "malformed_answer",
            Self::Request { .. } => "unsendable_request",
            Self::Unsendable { .. } => "unsendable_token",
        }
    }

    /// The provider's own reason why there is no token, where its definition lets one through.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Token(KeeperError::NeedsAuthorisation { failure, .. } | KeeperError::Failed { failure, .. }) => {
                failure.reason()
            }
            _ => None,
        }
    }

    /// What a person should do about it.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Token(err) => err.next_step(),
            Self::Refused { .. } => "Compare the granted scope with what the API needs, and authorise again.",
            Self::InsufficientScope { .. } => {
                "Add the scope to the variable scope, where the provider allows this client it, and authorise again."
            }
            Self::Status { status, .. } if status.is_server_error() || status.as_u16() == 429 => {
                "Nothing, unless it lasts."
            }
            Self::Status { .. } => "Check the job: the API does not take what it asks for.",
            Self::Limited { .. } => "Nothing: the next run goes on where the limit lets it.",
            Self::Elsewhere { .. } | Self::Paging { .. } => "Check the job's idea of the API's paging.",
            Self::NoTls => "Look at the log, and deploy again.",
            Self::Unreachable { .. } => "Check that the function can reach api_url.",
            Self::Malformed { .. } | Self::TooLarge { .. } => "Check api_url, and the job's idea of the API.",
            Self::Request { .. } => "Correct the job: no API can take this request.",
            Self::NotConfigured => "Set api_url and deploy again.",
            Self::Unsendable { .. } => "Authorise again.",
        }
    }
}
