//! The reading of a lookup: which entry of its answer is the account's, and the values that are kept of it.

use serde_json::Value;

use super::HttpResponse;
use crate::{
    json_path,
    provider::{Provider, Several, Source, Values},
    text,
    token::{Failure, FailureKind, Mark},
};

/// As many entries are named when a person has to choose.
const SHOWN: usize = 20;

/// Reads the answer to [`super::lookup`].
///
/// # Errors
/// The [`Failure`], where the answer is malformed or has no entry, where it has several and the configuration chooses none, and
/// where a value breaks the rule of its variable.
pub fn judge_lookup(provider: &Provider, raw: &HttpResponse) -> Result<Values, Failure> {
    let status = raw.status.as_u16();
    if !raw.status.is_success() {
        let class = match status {
            429 => FailureKind::RateLimited,
            408 | 425 | 500..=599 => FailureKind::ProviderUnavailable,
            _ => FailureKind::Config,
        };
        let detail = format!(
            "the request that tells more of the account is refused (HTTP {status}): look at the scopes and at lookup_url"
        );
        return Err(Failure::new(class, detail));
    }
    let answer: Value = serde_json::from_slice(&raw.body).map_err(|_| malformed("it is no JSON"))?;
    let terms = &provider.lookup;
    let list = json_path::below(&answer, &terms.list)
        .ok_or_else(|| malformed(&format!("there is nothing at {}", terms.list)))?;
    let all: Vec<&Value> = match list {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    };
    let entries: Vec<&Value> =
        all.into_iter().filter(|entry| terms.only.iter().all(|mark| bears(mark, entry))).collect();
    let entry = chosen(provider, &entries)?;
    let wanted = provider.variables.iter().filter(|(_, variable)| variable.from == Source::Lookup);
    let mut values = Values::new();
    for (name, variable) in wanted {
        let at = variable.at(name);
        let Some(value) = field(entry, at) else {
            if variable.default.is_some() {
                continue;
            }
            return Err(malformed(&format!("it has no {at}")));
        };
        let value = variable.accept(&value).map_err(|right| malformed(&format!("{at} must be {right}")))?;
        values.insert(name.clone(), value);
    }
    Ok(values)
}

/// The one entry that is meant.
fn chosen<'a>(provider: &Provider, entries: &[&'a Value]) -> Result<&'a Value, Failure> {
    let terms = &provider.lookup;
    let named = |entry: &Value| terms.name.as_deref().and_then(|at| field(entry, at));
    let is_chosen = |entry: &&&Value| {
        provider.choices().iter().all(|(variable, choice)| {
            let value = field(entry, provider.variables[variable].at(variable));
            value.as_ref() == Some(choice) || named(entry).as_ref() == Some(choice)
        })
    };
    let mut left: Vec<&Value> = entries.iter().filter(is_chosen).copied().collect();
    if let Some(mark) = &terms.prefer
        && left.iter().any(|entry| bears(mark, entry))
    {
        left.retain(|entry| bears(mark, entry));
    }
    match left[..] {
        [] if entries.is_empty() => Err(unusable("the provider names nothing of this account that can be used".into())),
        [one] => Ok(one),
        [first, ..] if terms.several == Several::First => Ok(first),
        _ => Err(unusable(format!("the account has {}", choices(provider, entries)))),
    }
}

/// What there is to choose from, and how that is done.
fn choices(provider: &Provider, entries: &[&Value]) -> String {
    let lookup = |(_, variable): &(&String, &crate::provider::Variable)| variable.from == Source::Lookup;
    let Some((variable, spec)) = provider.variables.iter().find(lookup) else { return String::new() };
    let shown = |entry: &&Value| {
        let value = field(entry, spec.at(variable)).unwrap_or_default();
        let name = provider.lookup.name.as_deref().and_then(|at| field(entry, at));
        text::cut(&name.map_or_else(|| value.clone(), |name| format!("{name} ({value})")), 100)
    };
    let all: Vec<_> = entries.iter().take(SHOWN).map(shown).collect();
    let more = entries.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "{} entries: {}{more}; set the variable provider_{variable} to the one that is meant",
        entries.len(),
        all.join(", ")
    )
}

/// A field of an entry as a text.
fn field(entry: &Value, at: &str) -> Option<String> {
    let value =
        json_path::below(entry, at).filter(|value| !value.is_null() && !value.is_object() && !value.is_array())?;
    Some(crate::token::text(value)).filter(|text| !text.is_empty())
}

fn bears(mark: &Mark, entry: &Value) -> bool {
    entry.as_object().is_some_and(|fields| mark.is_on(fields))
}

fn malformed(why: &str) -> Failure {
    Failure::new(
        FailureKind::MalformedAnswer,
        format!("the answer that tells more of the account cannot be used: {why}"),
    )
}

fn unusable(detail: String) -> Failure {
    Failure::new(FailureKind::Config, detail)
}
