//! The file of connections: a TOML table each, under the names that the variables of one connection have.

use std::{collections::BTreeMap, fs, path::Path};

use toml::de::{DeTable, DeValue};

use super::parse::Strings;
use token_keeper::store::check_account;

/// A file that is larger is another one.
const FILE_LIMIT: u64 = 256 << 10;
/// The one table at the top of the file.
const CONNECTIONS: &str = "connections";
/// A name that differs by more letters is another name.
const SLIP: usize = 2;

/// What the file says of one connection.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    line: usize,
    values: BTreeMap<String, (String, usize)>,
}

/// The file, read as far as it can be.
#[derive(Debug)]
pub(super) struct File {
    name: String,
    pub(super) tables: Vec<Table>,
    /// A line each, with the number of the line that it speaks of.
    wrong: Vec<(usize, String)>,
}

impl File {
    /// Reads the file at `path`; `name` is what the configuration calls it.
    ///
    /// # Errors
    /// That it cannot be read, or is no TOML.
    pub(super) fn open(name: &str, path: &Path) -> Result<Self, Vec<String>> {
        let failed = |why: String| vec![format!("connections_file={name} {why}")];
        let unread = |err: std::io::Error| {
            let next = "list the secret that holds it under `secrets`, or name an absolute path";
            failed(format!("cannot be read at {}: {err}; {next}", path.display()))
        };
        let meta = fs::metadata(path).map_err(unread)?;
        if !meta.is_file() || meta.len() > FILE_LIMIT {
            return Err(failed("is not a TOML file of connections".into()));
        }
        let text = fs::read_to_string(path).map_err(unread)?;
        Self::read(name, &text)
    }

    fn read(name: &str, text: &str) -> Result<Self, Vec<String>> {
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let line = |err: &toml::de::Error| err.span().map_or(1, |span| line_at(text, span.start));
            return Err(errors.iter().map(|err| format!("{name}:{}: {}", line(err), err.message())).collect());
        }
        let mut file = Self { name: name.to_owned(), tables: Vec::new(), wrong: Vec::new() };
        for (key, value) in document.get_ref() {
            let line = line_at(text, key.span().start);
            match value.get_ref() {
                DeValue::Table(tables) if key.get_ref() == CONNECTIONS => file.tables(text, tables),
                _ => {
                    let meant = nearest(key.get_ref(), [CONNECTIONS]);
                    file.wrong.push((line, format!("{}: is not known: {meant}", key.get_ref())));
                }
            }
        }
        if file.tables.is_empty() && file.wrong.is_empty() {
            file.wrong
                .push((1, "connections: is missing: a connection is a table such as [connections.google]".into()));
        }
        Ok(file)
    }

    fn tables(&mut self, text: &str, tables: &DeTable<'_>) {
        for (name, value) in tables {
            let line = line_at(text, name.span().start);
            let name = name.get_ref();
            let DeValue::Table(table) = value.get_ref() else {
                self.wrong.push((line, format!("connections.{name}: must be a table: [connections.{name}]")));
                continue;
            };
            if check_account(name).is_err() {
                let why = "a connection's name has lower-case letters, digits and `-` between them, 63 at most";
                self.wrong.push((line, format!("connections.{name}: {why}")));
            }
            let mut values = BTreeMap::new();
            for (key, value) in table {
                let at = line_at(text, key.span().start);
                let value = match value.get_ref() {
                    DeValue::String(text) => text.to_string(),
                    DeValue::Boolean(truth) => truth.to_string(),
                    DeValue::Integer(number) => number.to_string(),
                    _ => {
                        let why = "must be a string, a number, true or false";
                        self.wrong.push((at, format!("connections.{name}.{}: {why}", key.get_ref())));
                        continue;
                    }
                };
                values.insert(key.get_ref().to_string(), (value, at));
            }
            self.tables.push(Table { name: name.to_string(), line, values });
        }
    }

    /// Takes the mistakes that reading a table by its variables brought, and looks for what nothing has read.
    pub(super) fn note(&mut self, index: usize, strings: &Strings<'_>) {
        let Some(table) = self.tables.get(index) else { return };
        let known = strings.known();
        for line in strings.mistakes() {
            // A mistake begins with the variable's name, or speaks of the whole connection.
            let end = line.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
            let (head, rest) = line.split_at(end.unwrap_or(line.len()));
            let place = table.values.get(head).map_or(table.line, |(_, at)| *at);
            let text = match (known.contains(head), rest.strip_prefix(' ')) {
                (true, Some(why)) => format!("connections.{}.{head}: {why}", table.name),
                (true, None) => format!("connections.{}.{head}: {line}", table.name),
                (false, _) => format!("connections.{}: {line}", table.name),
            };
            self.wrong.push((place, text));
        }
        for (key, (_, at)) in table.values.iter().filter(|(key, _)| !known.contains(*key)) {
            let meant = nearest(key, known.iter().map(String::as_str));
            self.wrong.push((*at, format!("connections.{}.{key}: is not known: {meant}", table.name)));
        }
    }

    /// All mistakes, in the order of their lines.
    pub(super) fn mistakes(mut self) -> impl Iterator<Item = String> {
        self.wrong.sort_by_key(|(line, _)| *line);
        self.wrong.into_iter().map(move |(line, why)| format!("{}:{line}: {why}", self.name))
    }
}

impl Table {
    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).map(|(value, _)| value.clone())
    }

    /// All values by their variables.
    pub(super) fn values(&self) -> BTreeMap<String, String> {
        self.values.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
    }
}

/// Which of `names` is meant, as far as that can be guessed.
pub(super) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match meant(name, names.iter().copied()) {
        Some(other) => format!("is it {other} that is meant?"),
        None => format!("there are {}", names.join(", ")),
    }
}

/// The one of `names` that differs from `name` by a slip.
pub(super) fn meant<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.into_iter().map(|other| (strsim::osa_distance(name, other), other)).min();
    near.filter(|(distance, other)| *distance <= SLIP && *distance < other.len()).map(|(_, other)| other)
}

fn line_at(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}
