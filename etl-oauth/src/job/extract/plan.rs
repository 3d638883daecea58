use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::resource::{Drift, Mode, Resource};

/// What to copy, and where to: the TOML file that the variable `extract_file` names.
///
/// ```
/// # let plan = etl_oauth::job::extract::Plan::read(r#"
/// [sink]
/// kind = "folder"
/// path = "/data"
///
/// [[resource]]
/// name = "sales"
/// path = "/v2/sales"
/// records = "sales"
/// key = "id"
/// cursor = { field = "created_at", parameter = "after", format = "date" }
/// paging = { style = "cursor", parameter = "page_key", next = "next_page_key" }
/// # "#)?;
/// # assert_eq!(plan.resources()[0].name, "sales");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    sink: Target,
    #[serde(rename = "resource")]
    resources: Vec<Resource>,
}

/// Where the records go, and how they are written.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Target {
    /// Files in a folder.
    Folder {
        path: PathBuf,
        #[serde(default)]
        format: Format,
        #[serde(default)]
        formulas: Formulas,
    },
    /// Objects in a bucket: `s3://bucket/prefix`, `gs://…`, `az://…`.
    Bucket {
        url: String,
        #[serde(default)]
        options: BTreeMap<String, String>,
        #[serde(default)]
        format: Format,
        #[serde(default)]
        formulas: Formulas,
    },
    /// Tables of the PostgreSQL database of the secret `etl-oauth-sink-url`, in that schema.
    Postgres { schema: Option<String> },
    /// Posts to the URL of the secret `etl-oauth-sink-url`.
    Webhook {
        #[serde(default)]
        format: Format,
        #[serde(default)]
        formulas: Formulas,
    },
}

impl Target {
    /// How records are written.
    pub(super) fn style(&self) -> Style {
        match *self {
            Self::Folder { format, formulas, .. }
            | Self::Bucket { format, formulas, .. }
            | Self::Webhook { format, formulas } => Style { format, formulas },
            Self::Postgres { .. } => Style::default(),
        }
    }
}

/// How records are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    pub(super) format: Format,
    pub(super) formulas: Formulas,
}

/// What becomes of a text in CSV that a spreadsheet would run as a formula: strangers write the fields of many an API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Formulas {
    /// An apostrophe is put before it, and spreadsheets show it as text.
    #[default]
    Escape,
    /// It stays as it is, for readers that are no spreadsheets.
    Keep,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// A JSON value a line.
    #[default]
    Jsonl,
    /// The columns of each resource.
    Csv,
    /// Typed columns, compressed; the feature `parquet`.
    Parquet,
}

impl Plan {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, to stand after the variable's name.
    pub fn open(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|err| format!("names {name}, which can't be read: {err}"))?;
        let read = Self::read(&text).and_then(|plan| plan.built_in().map(|()| plan));
        read.map_err(|err| format!("names {name}, in which {err}"))
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(text: &str) -> Result<Self, String> {
        let plan: Self = toml::from_str(text).map_err(|err| err.to_string().trim().replace('\n', "\n    "))?;
        if plan.resources.is_empty() {
            return Err("there is no [[resource]]".into());
        }
        let mut names = BTreeSet::new();
        for resource in &plan.resources {
            let name = &resource.name;
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(format!("the resource {name:?} has a name that is more than a-z, 0-9, `_` and `-`"));
            }
            if !names.insert(name) {
                return Err(format!("two resources are called {name}"));
            }
            if !resource.path.starts_with('/') {
                return Err(format!("the path of {name} does not begin with a slash"));
            }
            plan.sound(resource)?;
        }
        Ok(plan)
    }

    /// Whether what a resource says goes together, and with the sink.
    fn sound(&self, resource: &Resource) -> Result<(), String> {
        let name = &resource.name;
        let wrong = |what: &str| Err(format!("{name} {what}"));
        let format = self.sink.style().format;
        let is_database = matches!(self.sink, Target::Postgres { .. });
        let is_typed = is_database || format == Format::Parquet;
        if resource.cursor.is_some() && resource.key.is_none() {
            return wrong("has a cursor and no key: records of one moment could not be distinguished");
        }
        if format == Format::Csv && resource.columns.is_empty() {
            return wrong("has no columns, which CSV needs");
        }
        if is_database && resource.key.is_none() && resource.mode == Mode::Upsert {
            return wrong("has no key, by which a row is replaced: name it, or set mode = \"replace\"");
        }
        if !is_database && (resource.mode == Mode::Replace || resource.remove_deleted) {
            return wrong("has mode or remove_deleted, which need a database: kind = \"postgres\"");
        }
        if resource.cursor.is_some() && resource.mode == Mode::Replace {
            return wrong("has a cursor and mode = \"replace\": what is not new would be gone");
        }
        if resource.remove_deleted && resource.deleted.is_none() {
            return wrong("has remove_deleted and no deleted, the field that says so");
        }
        if !is_typed && (!resource.types.is_empty() || resource.drift != Drift::Evolve || resource.dead_letters) {
            return wrong("has types, drift or dead_letters, which need columns with types: a database or Parquet");
        }
        if resource.cursor.as_ref().is_some_and(|cursor| cursor.lookback.is_some()) && !is_database {
            return wrong("has a lookback, by which records come again: only a database takes them for the same");
        }
        let kept = |field: &str| resource.select.is_empty() || resource.select.iter().any(|other| other == field);
        if is_typed && resource.key.as_deref().is_some_and(|key| !kept(key)) {
            return wrong("leaves its key out of select");
        }
        if resource.rename.keys().any(|field| !kept(field)) {
            return wrong("renames a field that select leaves out");
        }
        let Some(parent) = &resource.parent else { return Ok(()) };
        if resource.cursor.is_some() {
            return wrong("has a parent and a cursor: the parent's cursor says what is new");
        }
        match self.resources.iter().find(|other| other.name == parent.resource) {
            Some(other) if other.parent.is_some() => wrong("has a parent that has one itself"),
            Some(_) => Ok(()),
            None => wrong(&format!("has the parent {}, and there is no such resource", parent.resource)),
        }
    }

    /// Whether this program can write what the plan wants.
    fn built_in(&self) -> Result<(), String> {
        let missing = match &self.sink {
            Target::Postgres { .. } if cfg!(not(feature = "postgres")) => "postgres",
            sink if sink.style().format == Format::Parquet && cfg!(not(feature = "parquet")) => "parquet",
            _ => return Ok(()),
        };
        Err(format!("the sink is not built in: build with the cargo feature {missing}"))
    }

    /// Whether the sink itself remembers how far a run got.
    #[must_use]
    pub fn keeps_its_place(&self) -> bool {
        matches!(self.sink, Target::Postgres { .. })
    }

    /// The resource of that name.
    pub(super) fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.name == name)
    }

    /// What is copied.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    pub(super) fn target(&self) -> &Target {
        &self.sink
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_cannot_work_says_why() {
        let folder = "[sink]\nkind = 'folder'\npath = '/d'\n";
        let one = "[[resource]]\nname = 'a'\npath = '/a'\n";
        assert!(Plan::read(&format!("{folder}{one}")).is_ok());
        for (text, why) in [
            (folder.to_owned(), "resource"),
            (format!("{folder}{one}{one}"), "two resources"),
            (format!("{folder}{one}colour = 'red'"), "colour"),
            (format!("{folder}[[resource]]\nname = '../a'\npath = '/a'"), "name"),
            (format!("{folder}[[resource]]\nname = 'a'\npath = 'a'"), "slash"),
            (format!("{folder}{one}mode = 'replace'"), "need a database"),
            (format!("{folder}{one}drift = 'freeze'"), "columns with types"),
            (format!("{folder}{one}parent = {{ resource = 'b', field = 'id', column = 'b' }}"), "no such resource"),
            (format!("{folder}{one}select = ['x']\nrename = {{ y = 'z' }}"), "leaves out"),
            (format!("{folder}{one}key = 'id'\ncursor = {{ field = 'at', lookback = '3d' }}"), "lookback"),
            (format!("{folder}{one}key = 'id'\ncursor = {{ field = 'at', lookback = 'soon' }}"), "no duration"),
            (format!("[sink]\nkind = 'postgres'\n{one}"), "no key"),
            (format!("{folder}{one}cursor = {{ field = 'at', parameter = 'since' }}"), "no key"),
            (format!("[sink]\nkind = 'folder'\npath = '/d'\nformat = 'csv'\n{one}"), "columns"),
            (format!("[sink]\nkind = 'tape'\n{one}"), "tape"),
            (format!("[sink]\nkind = 'webhook'\nformulas = 'run'\n{one}"), "`escape` or `keep`"),
        ] {
            let err = Plan::read(&text).unwrap_err();
            assert!(err.contains(why), "{text}: {err}");
        }
        assert!(Plan::open(Path::new("/nowhere/plan.toml")).unwrap_err().contains("/nowhere/plan.toml"));
    }
}
