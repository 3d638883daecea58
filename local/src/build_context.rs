//! The build context of a function, laid out as `faas-cli build` does. Only what has changed is written, so that cargo
//! sees by the files' times what it must compile again.

mod layout;

use std::fs::{self, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// Deeper than any real folder: a symlink to its own folder ends here.
const DEEPEST: usize = 40;

/// The name that marks a folder of build output or another cache (<https://bford.info/cachedir/>).
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// Which folders make up a build context. Paths are relative to the project, the folder that faas-cli is run in.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) project: PathBuf,
    /// The folder of what `local` keeps; contexts lie in its `build`, as `build/` itself belongs to faas-cli.
    pub(crate) state: PathBuf,
    pub(crate) name: String,
    /// The template's folder below `template/`, version and all.
    pub(crate) lang: String,
    pub(crate) handler: String,
    /// `configuration.copy`
    pub(crate) copy: Vec<String>,
}

/// A build context on the disk.
#[derive(Debug)]
pub(crate) struct LaidOut {
    pub(crate) folder: PathBuf,
    /// Whether anything has changed since the last time.
    pub(crate) changed: bool,
}

/// The part of `template.yml` that is used here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Template {
    handler_folder: Option<String>,
    /// `envProcess` of the deployment.
    pub(crate) fprocess: String,
}

impl Template {
    pub(crate) fn read(project: &Path, lang: &str) -> anyhow::Result<Self> {
        let file = project.join("template").join(lang).join("template.yml");
        let text = fs::read_to_string(&file).with_context(|| {
            format!("there is no template {lang}: cannot read {} (lang is case-sensitive)", file.display())
        })?;
        let template: Option<Self> =
            serde_saphyr::from_str(&text).with_context(|| format!("cannot parse {}", file.display()))?;
        Ok(template.unwrap_or_default())
    }
}

/// A file or folder of a build context.
struct Item<'a> {
    /// Where it goes, relative to the context.
    to: &'a Path,
    /// Where it comes from; a symlink is followed.
    from: &'a Path,
    found: Metadata,
}

/// Gets every item of a context, folders before what is in them; a later item replaces an earlier one of the same path.
type Visit<'a> = dyn FnMut(Item<'_>) -> anyhow::Result<()> + 'a;

impl Context {
    /// Brings the build context up to date.
    ///
    /// # Errors
    ///
    /// The template or the handler is missing, or a file cannot be read or written.
    pub(crate) fn lay_out(&self) -> anyhow::Result<LaidOut> {
        layout::update(self, &self.handler_folder()?)
    }

    /// Calls `see` with each path of the context, and what its source is now.
    pub(crate) fn each(&self, see: &mut dyn FnMut(&Path, &Metadata)) -> anyhow::Result<()> {
        self.walk(&self.handler_folder()?, &mut |item| {
            see(item.to, &item.found);
            Ok(())
        })
    }

    /// Where this context is.
    pub(crate) fn folder(&self) -> PathBuf {
        self.state.join("build").join(&self.name)
    }

    /// The folder of the context that the handler is copied to.
    fn handler_folder(&self) -> anyhow::Result<PathBuf> {
        let template = Template::read(&self.project, &self.lang)?;
        Ok(match template.handler_folder {
            // The handler of a Dockerfile is the whole context.
            _ if self.is_bare() => PathBuf::new(),
            Some(folder) if !folder.is_empty() => PathBuf::from(folder),
            _ => PathBuf::from("function"),
        })
    }

    fn is_bare(&self) -> bool {
        self.lang == "dockerfile"
    }

    /// Visits all that belongs into the context: the template, over it the handler, over that `configuration.copy`.
    fn walk(&self, handler_folder: &Path, visit: &mut Visit<'_>) -> anyhow::Result<()> {
        let Self { project, name, lang, handler, copy, .. } = self;
        let source = project.join(handler);
        if handler.is_empty() || !source.is_dir() {
            bail!("function {name}: its handler {handler:?} is not a folder below {}", project.display());
        }
        if !self.is_bare() {
            self.walk_folder(&project.join("template").join(lang), Path::new(""), &[], 0, visit)?;
        }
        self.walk_folder(&source, handler_folder, &["build", "template"], 0, visit)?;
        for extra in copy {
            self.walk_extra(extra, handler_folder, visit).with_context(|| format!("configuration.copy: {extra}"))?;
        }
        Ok(())
    }

    /// Visits what is in `from`, without the names that are left out.
    fn walk_folder(
        &self,
        from: &Path,
        to: &Path,
        left_out: &[&str],
        depth: usize,
        visit: &mut Visit<'_>,
    ) -> anyhow::Result<()> {
        if depth == DEEPEST {
            bail!("{} is nested too deep; a symlink may lead back to its own folder", from.display());
        }
        let mut entries = fs::read_dir(from)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .with_context(|| format!("cannot read {}", from.display()))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            if left_out.iter().any(|left_out| name == *left_out) {
                continue;
            }
            self.walk_any(&entry.path(), &to.join(name), depth, visit)?;
        }
        Ok(())
    }

    fn walk_any(&self, from: &Path, to: &Path, depth: usize, visit: &mut Visit<'_>) -> anyhow::Result<()> {
        let found = fs::metadata(from).with_context(|| format!("cannot copy {}", from.display()))?;
        let folder = found.is_dir();
        // Unlike faas-cli: cargo's target folder holds gigabytes, and the state folder holds this very context.
        if folder && (from.join(CACHE_TAG).is_file() || from.canonicalize()? == self.state) {
            return Ok(());
        }
        visit(Item { to, from, found })?;
        if folder { self.walk_folder(from, to, &[], depth + 1, visit) } else { Ok(()) }
    }

    /// A path of the project goes to the same path below the handler.
    fn walk_extra(&self, extra: &str, handler_folder: &Path, visit: &mut Visit<'_>) -> anyhow::Result<()> {
        let path = Path::new(extra);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        if !inside || path.as_os_str().is_empty() {
            bail!("it must lie below the project");
        }
        // The folders above it, which exist in the project, too.
        let parents: Vec<_> = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
        for parent in parents.into_iter().rev() {
            let from = self.project.join(parent);
            let found = fs::metadata(&from).with_context(|| format!("cannot copy {}", from.display()))?;
            visit(Item { to: &handler_folder.join(parent), from: &from, found })?;
        }
        self.walk_any(&self.project.join(&path), &handler_folder.join(&path), 0, visit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::Value;

    use super::*;

    /// What faas-cli 0.18.12 was seen to lay out, case by case.
    const RECORDED: &str = include_str!("../tests/recorded/contexts.json");

    fn mode(text: &Value) -> Option<Permissions> {
        text.as_str().map(|text| Permissions::from_mode(u32::from_str_radix(text, 8).unwrap()))
    }

    fn write(root: &Path, files: &serde_json::Map<String, Value>) {
        for (path, file) in files {
            // Contexts are laid out elsewhere than faas-cli does.
            let path = if path.starts_with("build/") { root.join(".local").join(path) } else { root.join(path) };
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match file {
                Value::String(text) => fs::write(&path, text).unwrap(),
                _ if file["folder"] == true => fs::create_dir_all(&path).unwrap(),
                _ => match file["symlink"].as_str() {
                    Some(to) => std::os::unix::fs::symlink(to, &path).unwrap(),
                    None => fs::write(&path, file["text"].as_str().unwrap()).unwrap(),
                },
            }
            if let Some(mode) = mode(&file["mode"]) {
                fs::set_permissions(&path, mode).unwrap();
            }
        }
    }

    fn entries(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert!(!metadata.is_symlink(), "{}", path.display());
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let slash = if metadata.is_dir() { "/" } else { "" };
            found.insert(format!("{:04o} {name}{slash}", metadata.permissions().mode() & 0o7777));
            if metadata.is_dir() {
                entries(root, &path, found);
            }
        }
    }

    #[test]
    fn contexts_are_laid_out_as_recorded() {
        let recorded: Value = serde_json::from_str(RECORDED).unwrap();
        let names = |list: &Value| -> BTreeSet<String> {
            list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        for case in recorded["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let project = folder.path().join("project");
            fs::create_dir(&project).unwrap();
            write(&project, recorded["template"].as_object().unwrap());
            write(&project, case["files"].as_object().unwrap());
            if let Some(without) = case["without"].as_str() {
                fs::remove_dir_all(project.join(without)).unwrap();
            }
            let text = |key: &str| case[key].as_str().unwrap().to_owned();
            let context = Context {
                project: project.clone(),
                state: project.join(".local"),
                name: "hello".to_owned(),
                lang: text("lang"),
                handler: text("handler"),
                copy: names(&case["copy"]).into_iter().collect(),
            };
            let laid_out = context.lay_out();
            if case["fails"] == true {
                assert!(laid_out.is_err(), "{name}");
                continue;
            }
            laid_out.unwrap_or_else(|error| panic!("{name}: {error:#}"));
            let build = project.join(".local/build");
            fs::remove_file(build.join("hello.json")).unwrap();
            let mut found = BTreeSet::new();
            entries(&build, &build, &mut found);
            let mut expected = names(&recorded["fresh"]);
            expected.extend(names(&case["plus"]));
            let expected: BTreeSet<_> = expected.difference(&names(&case["minus"])).cloned().collect();
            let (missing, surplus): (Vec<_>, Vec<_>) =
                (expected.difference(&found).collect(), found.difference(&expected).collect());
            assert!(missing.is_empty() && surplus.is_empty(), "{name}: missing {missing:?}, surplus {surplus:?}");
            let texts: Option<BTreeMap<String, String>> =
                serde_json::from_value(case["texts"].clone()).unwrap_or_default();
            for (path, text) in texts.unwrap_or_default() {
                assert_eq!(fs::read_to_string(build.join(&path)).unwrap(), text, "{name}: {path}");
            }
        }
    }
}
