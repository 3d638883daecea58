//! `${VARIABLE}` in a stack file, as faas-cli replaces it: in the whole text, comments included, before it is YAML.

use anyhow::{Context as _, bail};

/// Replaces each `${…}` in `text` by the value of its variable; an unset variable is empty.
///
/// Supported: `${V}`; `${V:-default}` and its other spellings, `:=`, `=`, `:+` and `:?`, which all mean the default;
/// `${#V}`, the length; `${V^}`, `${V^^}`, `${V,}`, `${V,,}`, upper and lower case; `${V/old/new}` and `${V//old/new}`.
/// `$V` stays as it is, and `$$` before a brace is a dollar sign.
pub(super) fn substitute(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let (inner, after) = braced(&from[2..]).with_context(|| {
            let line = text[..text.len() - from.len()].lines().count().max(1);
            format!("line {line}: a `${{` has no closing brace")
        })?;
        out.push_str(&expand(inner, variable)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The text before the closing brace, and the text after it.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' if text[..at].ends_with('$') => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

fn expand(inner: &str, variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let value = |name: &str| variable(name).unwrap_or_default();
    if let Some(name) = inner.strip_prefix('#').filter(|name| !name.is_empty() && name.chars().all(is_name)) {
        return Ok(value(name).chars().count().to_string());
    }
    let (name, operation) = inner.split_at(inner.find(|c| !is_name(c)).unwrap_or(inner.len()));
    let value = value(name);
    let default = [":-", ":=", ":+", ":?", "="].iter().find_map(|operator| operation.strip_prefix(operator));
    Ok(match operation {
        _ if name.is_empty() => bail!("`${{{inner}}}` names no variable"),
        "" => value,
        "^^" => value.to_uppercase(),
        ",," => value.to_lowercase(),
        "^" => first(&value, |c| c.to_uppercase().collect()),
        "," => first(&value, |c| c.to_lowercase().collect()),
        _ => match (default, operation.strip_prefix('/')) {
            (Some(default), _) if value.is_empty() => substitute(default, variable)?,
            (Some(_), _) => value,
            (None, Some(replacement)) => {
                let (all, pattern) = match replacement.strip_prefix('/') {
                    Some(pattern) => (true, pattern),
                    None => (false, replacement),
                };
                let (old, new) = pattern.split_once('/').unwrap_or((pattern, ""));
                if all { value.replace(old, new) } else { value.replacen(old, new, 1) }
            }
            (None, None) => bail!("`${{{inner}}}` is no substitution that is understood here"),
        },
    })
}

fn first(text: &str, change: impl Fn(char) -> String) -> String {
    let mut chars = text.chars();
    chars.next().map(change).unwrap_or_default() + chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str) -> anyhow::Result<String> {
        substitute(text, &|name| match name {
            "SET" => Some("aval".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn each_form_means_what_faas_cli_makes_of_it() {
        // The first twelve were recorded from faas-cli.
        for (text, expected) in [
            ("${UNSET}", ""),
            ("${SET}", "aval"),
            ("${UNSET:-x y}", "x y"),
            ("${UNSET:=eq}", "eq"),
            ("$SET", "$SET"),
            ("$${SET}", "${SET}"),
            ("${SET:+alt}", "aval"),
            ("${UNSET=only}", "only"),
            ("${SET:?msg}", "aval"),
            ("${#SET}", "4"),
            ("${SET^^}", "AVAL"),
            ("${SET/a/b}", "bval"),
            ("${SET//a/b}", "bvbl"),
            ("${EMPTY:-default}", "default"),
            ("${UNSET:-https://${SET}/x}/y", "https://aval/x/y"),
            ("$(cmd) $1 $", "$(cmd) $1 $"),
            ("${SET:-http://127.0.0.1:8080}/oauth", "aval/oauth"),
        ] {
            assert_eq!(replaced(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_shows_it() {
        assert!(format!("{:#}", replaced("a\nb: ${oops").unwrap_err()).contains("line 2"));
        assert!(replaced("${SET-default}").unwrap_err().to_string().contains("${SET-default}"));
        assert!(replaced("${}").is_err());
    }
}
