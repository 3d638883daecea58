//! Definitions from TOML: those built in, and one's own.

use serde_json::Value;

use super::{Definition, check, variable::Variable};

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
    /// use etl_oauth::provider::Definition;
    /// let text = "token_url = 'https://login.example.com/token'\nclient_auth = 'post'";
    /// let definition = Definition::read("acme.toml", text).map_err(|wrong| wrong.join("\n"))?;
    /// assert_eq!(definition.token_url.as_deref(), Some("https://login.example.com/token"));
    /// # Ok::<(), String>(())
    /// ```
    ///
    /// # Errors
    /// All that is wrong with it, a sentence each: the file, the key, and what would be right.
    pub fn read(file: &str, text: &str) -> Result<Self, Vec<String>> {
        let document: Value = toml::from_str(text).map_err(|err| vec![format!("{file}: {}", one_line(&err, text))])?;
        let mut wrong = Vec::new();
        unknown_keys(&document, &reference(&document), "", &mut wrong);
        if wrong.is_empty() {
            let definition: Self =
                toml::from_str(text).map_err(|err| vec![format!("{file}: {}", one_line(&err, text))])?;
            wrong = check::mistakes(&definition);
            if wrong.is_empty() {
                return Ok(definition);
            }
        }
        Err(wrong.into_iter().map(|(key, why)| format!("{file}: {key}: {why}")).collect())
    }
}

/// A document with every key that there is: an empty table stands for one whose keys are free.
fn reference(document: &Value) -> Value {
    // Plain data: nothing of it can fail to serialise.
    let mut all = serde_json::to_value(Definition::default()).unwrap_or_default();
    if let (Some(variables), Some(Value::Object(named))) = (all.get_mut("variables"), document.get("variables")) {
        let variable = serde_json::to_value(Variable::default()).unwrap_or_default();
        *variables = named.keys().map(|name| (name.clone(), variable.clone())).collect();
    }
    all
}

/// serde stops at the first unknown key; a person wants to see all of them.
fn unknown_keys(document: &Value, reference: &Value, path: &str, wrong: &mut Vec<check::Mistake>) {
    let (Value::Object(document), Value::Object(reference)) = (document, reference) else { return };
    if reference.is_empty() {
        return;
    }
    for (key, value) in document {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match reference.get(key) {
            Some(inner) => unknown_keys(value, inner, &path, wrong),
            None => {
                let keys: Vec<_> = reference.keys().map(String::as_str).collect();
                wrong.push((path, format!("is no key of a definition; there are {}", keys.join(", "))));
            }
        }
    }
}

/// An error of the parser with its line. What it quotes of the file is keys and values of a definition, none a secret.
fn one_line(err: &toml::de::Error, text: &str) -> String {
    let line = err.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("line {line}: {}", err.message())
}

#[cfg(test)]
mod tests;
