//! A definition's description of the request that tells more of an account: its tenant, its data centre, its address.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Params, Verb};
use crate::token::Mark;

/// What is asked with a new token at `lookup_url`, and which part of the answer counts. The variables with
/// `from = "lookup"` are read from it, and kept with the tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Lookup {
    /// The HTTP method; `GET` where nothing is said.
    pub method: Option<Verb>,
    /// Parameters: in the query of a GET, in the JSON body of a POST.
    pub params: Params,
    /// Further headers, beside those of `[api]`.
    pub headers: BTreeMap<String, String>,
    /// Where the answer has its list, as a JSON pointer or a path with dots; the answer itself where nothing is said. Where no
    /// list is there, what is there is the one entry.
    pub list: String,
    /// The signs that all entries that count bear.
    pub only: Vec<Mark>,
    /// The sign of the entry that is taken where there are several.
    pub prefer: Option<Mark>,
    /// Where an entry has its name for people, who choose by it.
    pub name: Option<String>,
    /// What is done where several entries are left, and the configuration does not choose.
    pub several: Several,
}

/// What is done with several entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Several {
    /// No token is used until `provider_NAME` says which one is meant: by its value or by its name.
    #[default]
    Ask,
    /// The first one is taken.
    First,
}
