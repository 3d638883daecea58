//! A definition's description of the API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::token::Mark;

/// How the provider's API wants to be called, and how it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ApiFacts {
    /// The header that carries the access token (RFC 6750 §2.1). It never goes into a URL.
    pub header: String,
    /// What stands before the token in that header; empty for the token alone.
    pub scheme: String,
    /// What that header says, where it is not the scheme, a space and the token: `sid={access_token}`.
    pub token: Option<String>,
    /// Further headers of every request; values may hold `{client_id}`, `{client_secret}` and variables, secret ones too.
    pub headers: BTreeMap<String, String>,
    /// Parameters in the query of every request; values as in `headers`.
    pub params: BTreeMap<String, String>,
    /// The API wants a secret in the query of its URLs, and that is known to be unsafe: its logs show it.
    pub secrets_in_query: bool,
    /// The statuses that mean that the access token has ended.
    pub expired: Vec<u16>,
    /// The signs of that in an answer: in its body, in its status, or in both. `/proxy` looks at JSON bodies of
    /// up to 16 KiB.
    #[serde(deserialize_with = "crate::token::one_or_many")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::token::OneOrMany<Mark>"))]
    pub expired_in: Vec<Mark>,
    /// Where an answer that is no success says why, in its body: the first of these places that is there. Without one the
    /// beginning of the body is the message.
    pub message: Vec<String>,
    /// The header by which it knows a request that comes a second time, such as `Idempotency-Key`: the client sets it for POST and
    /// PATCH, and sends those again that broke.
    pub idempotency: Option<String>,
    /// How its answers show what is left of its limits.
    pub limits: Limits,
    /// How it splits long answers, where all its resources do alike.
    pub paging: Option<Paging>,
}

/// Where a token stands in the text of its header.
const TOKEN: &str = "{access_token}";

impl ApiFacts {
    /// What stands before the token in its header, and after it.
    pub(crate) fn around_token(&self) -> (String, &str) {
        match self.token.as_deref().and_then(|text| text.split_once(TOKEN)) {
            Some((before, after)) => (before.to_owned(), after),
            None if self.scheme.is_empty() => (String::new(), ""),
            None => (format!("{} ", self.scheme), ""),
        }
    }

    /// Whether the text of the token's header has a place for it, and no other places.
    pub(super) fn has_token_once(&self) -> bool {
        self.token
            .as_ref()
            .is_none_or(|text| text.matches(TOKEN).count() == 1 && super::variable::placeholders(text).count() == 1)
    }
}

impl Default for ApiFacts {
    fn default() -> Self {
        Self {
            header: "Authorization".into(),
            scheme: "Bearer".into(),
            token: None,
            headers: BTreeMap::new(),
            params: BTreeMap::new(),
            secrets_in_query: false,
            expired: vec![401],
            expired_in: Vec::new(),
            message: Vec::new(),
            idempotency: None,
            limits: Limits::default(),
            paging: None,
        }
    }
}

/// How an API shows what is left of its limits. `Retry-After` is honoured without being named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How many requests of one account it serves at a time; more than that wait for one of them to end.
    pub concurrent: Option<u32>,
    /// The header with the number of requests that are left.
    pub remaining: Option<String>,
    /// The header with the time of the next ones.
    pub reset: Option<String>,
    /// What that one counts.
    pub reset_unit: ResetUnit,
    /// The header with the number of requests that are allowed; with several windows a list with commas.
    pub limit: Option<String>,
    /// The header with the number of requests made, where the API sends that instead of what is left.
    pub usage: Option<String>,
    /// The windows that the lists count, in seconds. A window begins at a whole multiple of it, counted in UTC.
    pub windows: Vec<u32>,
    /// The statuses, beside 429, that mean that a limit is reached when nothing is left.
    pub statuses: Vec<u16>,
    /// The signs in an answer that a limit is reached: in its body, in its status, or in both. `/proxy` looks at JSON bodies of
    /// up to 16 KiB.
    pub told_in: Vec<Mark>,
}

/// What the header of a reset counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ResetUnit {
    /// Seconds from now.
    #[default]
    Seconds,
    /// Milliseconds from now.
    Milliseconds,
    /// Seconds since 1970.
    Epoch,
    /// Milliseconds since 1970.
    EpochMilliseconds,
    /// A date and time, RFC 3339.
    Rfc3339,
}

/// How an API splits long answers. A place in an answer is a JSON pointer (RFC 6901), or a path with dots. `records` is empty where the answer is the
/// array itself, and where the place differs from one resource to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "style", rename_all = "snake_case", deny_unknown_fields)]
pub enum Paging {
    /// A `Link` header with `rel="next"` (RFC 8288).
    Link {
        /// Where the records are.
        #[serde(default)]
        records: String,
    },
    /// The address of the next page, in the body.
    NextUrl {
        /// Where it is.
        next: String,
        /// Where the records are.
        #[serde(default)]
        records: String,
    },
    /// A mark of the next page in the body, to be sent along.
    Cursor {
        /// Where it is.
        next: String,
        /// The parameter that it becomes.
        parameter: String,
        /// Where the records are.
        #[serde(default)]
        records: String,
    },
    /// A number of records to pass over.
    Offset {
        /// The parameter.
        parameter: String,
        /// The parameter of the size of a page.
        size_parameter: String,
        /// The size of a page.
        size: u32,
        /// Where the records are.
        #[serde(default)]
        records: String,
    },
    /// The number of the page, from `first` on, until one is empty.
    Page {
        /// The parameter.
        parameter: String,
        /// The number of the first page.
        #[serde(default = "one")]
        first: u32,
        /// The parameter of the size of a page.
        #[serde(default)]
        size_parameter: Option<String>,
        /// The size of a page.
        #[serde(default)]
        size: Option<u32>,
        /// Where the records are.
        #[serde(default)]
        records: String,
    },
}

fn one() -> u32 {
    1
}
