//! Files of this repository, and what the tests read out of source text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A page of the book, or another file of the repository.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// All files below `folder` with this extension, without build output and fetched packages.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir()
                && !["target", "build", "node_modules", "corpus"].contains(&name.as_str())
                && !name.starts_with('.')
            {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The code of the function and of the keeper inside it: without tests, comments and the command line's programs.
pub(crate) fn code() -> String {
    let mut code = String::new();
    for file in files("etl-oauth", "rs") {
        let path = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let is_source = path.contains("/src/");
        let is_test = path.contains("/tests/") || path.ends_with("tests.rs") || path.ends_with("samples.rs");
        if !is_source || is_test || path.contains("/cli/") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

/// The text in the parentheses after each `macro_name!(`.
pub(crate) fn calls<'a>(code: &'a str, macro_name: &str) -> Vec<&'a str> {
    let head = format!("{macro_name}!(");
    let is_whole = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices(&head).filter(|(at, _)| is_whole(*at)).map(|(at, _)| inside(&code[at + head.len()..])).collect()
}

/// The text up to the parenthesis that closes the one before it; strings may hold any.
fn inside(text: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (1_u32, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return &text[..at];
                }
            }
            _ => {}
        }
    }
    text
}

/// The arguments of a macro's call.
pub(crate) fn arguments(call: &str) -> Vec<&str> {
    let (mut depth, mut quoted, mut escaped, mut begin) = (0_u32, false, false, 0);
    let mut found = Vec::new();
    for (at, c) in call.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                found.push(call[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    found.push(call[begin..].trim());
    found.retain(|argument| !argument.is_empty());
    found
}

/// The text of a string literal.
pub(crate) fn literal(argument: &str) -> Option<&str> {
    argument.trim().strip_prefix('"')?.strip_suffix('"')
}

/// All string literals, by a scan that knows no raw strings.
pub(crate) fn literals(code: &str) -> Vec<&str> {
    let (mut begin, mut escaped, mut found) = (None, false, Vec::new());
    for line in code.lines() {
        for (at, c) in line.char_indices() {
            match (c, begin) {
                _ if escaped => escaped = false,
                ('\\', Some(_)) => escaped = true,
                ('"', Some(start)) => {
                    found.push(&line[start..at]);
                    begin = None;
                }
                ('"', None) if !line[..at].ends_with('\'') => begin = Some(at + 1),
                _ => {}
            }
        }
        (begin, escaped) = (None, false);
    }
    found
}

/// Which names a page's tables define: the code spans in the first cell of each row.
pub(crate) fn defined(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| spans(row.split(" | ").next().unwrap_or_default())).collect()
}

/// The code spans of a text.
pub(crate) fn spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What one set has and the other lacks, to be shown.
pub(crate) fn same(what: &str, page: &BTreeSet<String>, code: &BTreeSet<String>) {
    let missing: Vec<_> = code.difference(page).collect();
    let gone: Vec<_> = page.difference(code).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "{what}: not in the page {missing:?}; in the page and not in the code {gone:?}"
    );
}

/// Compares a file with what it should be; with `UPDATE` set, writes it.
pub(crate) fn current(path: &str, wanted: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(path), wanted).unwrap();
    }
    let is = fs::read_to_string(root().join(path)).unwrap_or_default();
    assert!(is == wanted, "{path} is stale: UPDATE=1 cargo test -p tests --test book writes it anew");
}

/// Compares the part of a page between its two marks with what it should be; with `UPDATE` set, writes it.
pub(crate) fn current_part(path: &str, name: &str, wanted: &str) {
    let page = read(path);
    let (begin, end) = (format!("<!-- {name}: written by a test -->\n"), format!("<!-- {name}: end -->\n"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{path} has no mark {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{path} has no mark {end}"));
    current(path, &format!("{before}{begin}\n{wanted}\n{end}{after}"));
}
