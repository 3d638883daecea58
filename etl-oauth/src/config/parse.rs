use std::{collections::BTreeSet, time::Duration};

use serde::de::{DeserializeOwned, IntoDeserializer, value::StrDeserializer};

use super::duration;
use crate::format::cut;

/// How much of a wrong value a mistake quotes, in characters.
const QUOTED: usize = 64;

/// Reads variables one by one and collects what is wrong with them. A variable that is empty counts as not set, as an
/// unset `${…}` of a stack file leaves it.
pub(super) struct Strings<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    /// The names that were asked for, set or not.
    known: BTreeSet<String>,
    mistakes: Vec<String>,
}

impl<'a> Strings<'a> {
    pub(super) fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { get, known: BTreeSet::new(), mistakes: Vec::new() }
    }

    /// The names that were asked for, set or not.
    pub(super) fn known(&self) -> &BTreeSet<String> {
        &self.known
    }

    /// What is wrong, of what was read until now.
    pub(super) fn take_mistakes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.mistakes)
    }

    /// The same, left where they are.
    pub(super) fn mistakes(&self) -> &[String] {
        &self.mistakes
    }

    pub(super) fn mistake(&mut self, line: String) {
        self.mistakes.push(line);
    }

    /// A mistake that several readers may find.
    pub(super) fn mistake_once(&mut self, line: String) {
        if !self.mistakes.contains(&line) {
            self.mistakes.push(line);
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.known.insert(name.to_owned());
        (self.get)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// A value read by `parse`, whose error completes the sentence that begins with the variable's name.
    pub(super) fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        parse(&text).map_err(|why| self.mistake(format!("{name} {why}"))).ok()
    }

    pub(super) fn required<T>(
        &mut self,
        name: &str,
        what: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.text(name).is_none() {
            self.mistake(format!("{name} is not set: it is {what}"));
        }
        self.parsed(name, parse)
    }

    pub(super) fn choice<T: Clone>(&mut self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        self.parsed(name, |text| match choices.iter().find(|(choice, _)| *choice == text) {
            Some((_, value)) => Ok(value.clone()),
            None => {
                let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
                Err(format!("must be one of {}, and is `{}`", names.join(", "), cut(text, QUOTED)))
            }
        })
    }

    /// One of the names that a type has in files.
    pub(super) fn named<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        self.parsed(name, |text| {
            let text: StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
            T::deserialize(text).map_err(|err| err.to_string().replacen("unknown variant", "is set to", 1))
        })
    }

    pub(super) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.choice(name, &[("true", true), ("1", true), ("false", false), ("0", false)])
    }

    /// A duration, or bare seconds.
    pub(super) fn duration(&mut self, name: &str) -> Option<Duration> {
        self.parsed(name, |text| {
            let wrong = || format!("is not a duration such as 10s, 1m30s or 90, but `{}`", cut(text, QUOTED));
            duration::parse(text).ok_or_else(wrong)
        })
    }
}
