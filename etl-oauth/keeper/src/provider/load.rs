//! Definitions from TOML: those built in, and one's own.

use serde_json::{Map, Value, json};
use toml::de::DeTable;

use super::{AlsoToken, Definition, check, variable::Variable};

// One line for each file in `providers/`, made by build.rs.
const BUILTIN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/providers.rs"));

impl Definition {
    /// The definition that is built in under `name`; no other one is parsed. `custom` is an empty one: the configuration
    /// says it all.
    #[must_use]
    pub fn builtin(name: &str) -> Option<Self> {
        if name == "custom" {
            return Some(Self::default());
        }
        // A test reads every built-in definition.
        toml::from_str(Self::builtin_text(name)?).ok()
    }

    /// The file of a built-in definition, with its comments: where the facts come from, and what is not known.
    #[must_use]
    pub fn builtin_text(name: &str) -> Option<&'static str> {
        let at = BUILTIN.binary_search_by_key(&name, |(name, _)| name).ok()?;
        Some(BUILTIN[at].1)
    }

    /// The names of the built-in definitions, and `custom`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name).chain(["custom"])
    }

    /// The JSON Schema of the format, as `providers/schema.json` has it.
    #[cfg(feature = "schema")]
    #[must_use]
    pub fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }

    /// Reads a definition and checks it. `file` is its name in what is said about it.
    ///
    /// ```
    /// use token_keeper::provider::Definition;
    /// let text = "token_url = 'https://login.example.com/token'\nclient_auth = 'post'";
    /// let definition = Definition::read("acme.toml", text).map_err(|wrong| wrong.join("\n"))?;
    /// assert_eq!(definition.token_url.as_deref(), Some("https://login.example.com/token"));
    /// # Ok::<(), String>(())
    /// ```
    ///
    /// # Errors
    /// All that is wrong with it, a sentence each: the file, the line, the key, and what would be right.
    pub fn read(file: &str, text: &str) -> Result<Self, Vec<String>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let line = |err: &toml::de::Error| err.span().map_or(1, |span| line_at(text, span.start));
            return Err(errors.iter().map(|err| format!("{file}:{}: {}", line(err), err.message())).collect());
        }
        let document: Value = toml::from_str(text).map_err(|err| vec![format!("{file}: {}", err.message())])?;
        let mut wrong = Vec::new();
        let sound = sift(&document, &reference(&document), &[], &mut wrong);
        let definition: Self = serde_json::from_value(sound).map_err(|err| vec![format!("{file}: {err}")])?;
        // What is not known of a variable would look like a contradiction where it is used.
        if !wrong.iter().any(|(key, _)| key.starts_with("variables.")) {
            wrong.extend(check::mistakes(&definition));
        }
        if wrong.is_empty() {
            return Ok(definition);
        }
        let mut lines: Vec<_> =
            wrong.into_iter().map(|(key, why)| (line_of(table.get_ref(), &key, text), key, why)).collect();
        lines.sort_by_key(|(line, ..)| *line);
        let place = |line: Option<usize>| line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
        Err(lines.into_iter().map(|(line, key, why)| format!("{}: {key}: {why}", place(line))).collect())
    }
}

/// A document with every key that there is: an empty table stands for one whose keys are free.
fn reference(document: &Value) -> Value {
    // Plain data: nothing of it can fail to serialise.
    let mut all = serde_json::to_value(Definition::default()).unwrap_or_default();
    let named = [
        ("variables", serde_json::to_value(Variable::default())),
        ("also", serde_json::to_value(AlsoToken::default())),
    ];
    for (key, keys) in named {
        if let (Some(table), Some(Value::Object(named))) = (all.get_mut(key), document.get(key)) {
            let keys = keys.unwrap_or_default();
            *table = named.keys().map(|name| (name.clone(), keys.clone())).collect();
        }
    }
    all
}

/// The part of a document that can be read. serde stops at the first mistake; a person wants to see all of them, so each
/// value is tried by itself.
fn sift(document: &Value, reference: &Value, path: &[&str], wrong: &mut Vec<check::Mistake>) -> Value {
    let (Value::Object(document), Value::Object(keys)) = (document, reference) else { return Value::Null };
    let mut sound = Map::new();
    for (key, value) in document {
        let path = [path, &[key]].concat();
        match keys.get(key) {
            None => wrong.push((path.join("."), unknown(key, keys))),
            Some(Value::Object(inner)) if !inner.is_empty() && value.is_object() => {
                sound.insert(key.clone(), sift(value, &keys[key], &path, wrong));
            }
            Some(Value::Object(_)) if !value.is_object() => {
                wrong.push((path.join("."), "must be a table: [section], or { key = value }".into()));
            }
            Some(_) => {
                let alone = path.iter().rev().fold(value.clone(), |inner, key| json!({ *key: inner }));
                match serde_json::from_value::<Definition>(alone) {
                    Ok(_) => drop(sound.insert(key.clone(), value.clone())),
                    Err(err) => wrong.push((path.join("."), err.to_string())),
                }
            }
        }
    }
    sound.into()
}

fn unknown(key: &str, keys: &Map<String, Value>) -> String {
    let alike = keys.keys().filter(|known| known.len().abs_diff(key.len()) <= 2);
    let near = alike.map(|known| (distance(key, known), known)).min();
    match near.filter(|(distance, known)| *distance <= 2 && *distance < known.len()) {
        Some((_, known)) => format!("is no key of a definition: did you mean {known}?"),
        None => {
            let keys: Vec<_> = keys.keys().map(String::as_str).collect();
            format!("is no key of a definition; there are {}", keys.join(", "))
        }
    }
}

/// How many letters are to be put in, taken out or changed to make one word the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (corner + usize::from(a != b)).min(row[j] + 1).min(above + 1);
            corner = above;
        }
    }
    row[other.len()]
}

/// The line of a key, or of the table that it would belong to. A key may have dots of its own.
fn line_of(table: &DeTable<'_>, key: &str, text: &str) -> Option<usize> {
    table.iter().find_map(|(name, value)| {
        let rest = key.strip_prefix(&**name.get_ref())?;
        let here = || Some(line_at(text, name.span().start));
        match rest.strip_prefix('.') {
            Some(rest) => value.get_ref().as_table().and_then(|inner| line_of(inner, rest, text)).or_else(here),
            None if rest.is_empty() => here(),
            None => None,
        }
    })
}

fn line_at(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
