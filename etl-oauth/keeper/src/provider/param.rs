//! Values of a request's parameters: a text, and in JSON also truth values, numbers, lists and tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fill;

/// The parameters of a request, by name.
pub type Params = BTreeMap<String, Param>;

/// The value of a parameter. Texts may hold placeholders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "must be a text, true, false, a whole number, a list or a table")]
pub enum Param {
    /// A text.
    Text(String),
    /// A truth value.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A list: in a form the parameter once for each item.
    List(Vec<Param>),
    /// An object, for JSON alone.
    Table(Params),
}

impl Default for Param {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<&str> for Param {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Param {
    /// Whether it is an empty text, which takes a parameter away.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }

    /// The texts in it, which may hold placeholders.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => vec![text],
            Self::Flag(_) | Self::Number(_) => Vec::new(),
            Self::List(items) => items.iter().flat_map(Self::texts).collect(),
            Self::Table(params) => params.values().flat_map(Self::texts).collect(),
        }
    }

    /// Whether only JSON can carry it.
    #[must_use]
    pub fn needs_json(&self) -> bool {
        match self {
            Self::Text(_) | Self::Flag(_) | Self::Number(_) => false,
            Self::List(items) => items.iter().any(|item| matches!(item, Self::List(_) | Self::Table(_))),
            Self::Table(_) => true,
        }
    }

    /// It with its placeholders filled in. What comes out empty, or cannot be filled in, is `None`: it is left out.
    pub(crate) fn filled<'a>(&self, value: &impl Fn(&str) -> Option<&'a str>) -> Option<Value> {
        match self {
            Self::Text(text) => fill(text, value).filter(|text| !text.is_empty()).map(Value::String),
            Self::Flag(flag) => Some((*flag).into()),
            Self::Number(number) => Some((*number).into()),
            Self::List(items) => {
                let items: Vec<_> = items.iter().filter_map(|item| item.filled(value)).collect();
                (!items.is_empty()).then_some(items.into())
            }
            Self::Table(params) => {
                let fields = params.iter().filter_map(|(name, param)| Some((name.clone(), param.filled(value)?)));
                let fields: serde_json::Map<_, _> = fields.collect();
                (!fields.is_empty()).then_some(fields.into())
            }
        }
    }
}
