use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use token_keeper::api::Paging;

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
}

/// A list of the API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// What its files are called: lower-case letters, digits, `_` and `-`.
    pub name: String,
    /// The path below the API's base URL.
    pub path: String,
    /// Further parameters of the query.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Where the records are in an answer, with dots; empty where the answer is the list.
    #[serde(default)]
    pub records: String,
    /// How the list comes in pages; as the provider's definition says where this says nothing.
    pub paging: Option<Paging>,
    /// More pages than this are an error.
    #[serde(default = "max_pages")]
    pub max_pages: usize,
    /// The field that is another one for each record.
    pub key: Option<String>,
    /// What distinguishes new records from those of before; without it each run copies all.
    pub cursor: Option<Cursor>,
    /// The fields of a CSV row, with dots.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Records in a file, at least: a page is never split.
    pub batch: Option<u64>,
}

/// The field that only grows, and the parameter that asks for what comes after it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The field of a record.
    pub field: String,
    /// The parameter of the query.
    pub parameter: String,
    /// How the parameter wants it.
    #[serde(default)]
    pub format: CursorFormat,
    /// What the first run begins with.
    pub start: Option<String>,
}

/// How a cursor's value is written into a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CursorFormat {
    /// As it is in the record.
    #[default]
    Value,
    /// The day, in UTC: `2026-11-21`.
    Date,
    /// Seconds since 1970.
    Unix,
}

fn max_pages() -> usize {
    100_000
}

impl Plan {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, to stand after the variable's name.
    pub fn open(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|err| format!("names {name}, which can't be read: {err}"))?;
        Self::read(&text).map_err(|err| format!("names {name}, in which {err}"))
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
            if resource.cursor.is_some() && resource.key.is_none() {
                return Err(format!(
                    "{name} has a cursor and no key: records of one moment could not be distinguished"
                ));
            }
            if plan.sink.style().format == Format::Csv && resource.columns.is_empty() {
                return Err(format!("{name} has no columns, which CSV needs"));
            }
        }
        Ok(plan)
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
