//! The build context of a function, laid out as `faas-cli build` does.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// Deeper than any real folder: a symlink to its own folder ends here.
const DEEPEST: usize = 40;

/// Which folders make up a build context. Paths are relative to the project, the folder that faas-cli is run in.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) project: PathBuf,
    pub(crate) name: String,
    /// The template's folder below `template/`, version and all.
    pub(crate) lang: String,
    pub(crate) handler: String,
    /// `configuration.copy`
    pub(crate) copy: Vec<String>,
}

/// What counts of `template.yml` here.
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
            format!("there is no template {lang}: {} cannot be read (lang is case-sensitive)", file.display())
        })?;
        let template: Option<Self> =
            serde_saphyr::from_str(&text).with_context(|| format!("{} is not right", file.display()))?;
        Ok(template.unwrap_or_default())
    }
}

impl Context {
    /// Writes `build/NAME` anew and says where that is.
    pub(crate) fn lay_out(&self) -> anyhow::Result<PathBuf> {
        let Self { project, name, lang, handler, copy } = self;
        let template = Template::read(project, lang)?;
        // The handler of a Dockerfile is the whole context.
        let bare = lang == "dockerfile";
        let folder = match template.handler_folder.as_deref() {
            _ if bare => "",
            None | Some("") => "function",
            Some(folder) => folder,
        };
        let source = project.join(handler);
        if handler.is_empty() || !source.is_dir() {
            bail!("function {name}: its handler {handler:?} is not a folder below {}", project.display());
        }
        let context = project.join("build").join(name);
        match fs::remove_dir_all(&context) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", context.display()));
            }
            _ => private(&context)?,
        }
        if !bare {
            copy_folder(&project.join("template").join(lang), &context, &[], 0)?;
        }
        let overlay = context.join(folder);
        private(&overlay)?;
        copy_folder(&source, &overlay, &["build", "template"], 0)?;
        for extra in copy {
            copy_extra(project, extra, &overlay).with_context(|| format!("configuration.copy: {extra}"))?;
        }
        Ok(context)
    }
}

/// For the user alone, as faas-cli makes it, whatever was there before.
fn private(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot create {}", folder.display()))
}

/// Copies what is in `from` over what is in `to`. Symlinks become what they point to; modes stay.
fn copy_folder(from: &Path, to: &Path, left_out: &[&str], depth: usize) -> anyhow::Result<()> {
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
        copy_any(&entry.path(), &to.join(name), depth)?;
    }
    Ok(())
}

fn copy_any(from: &Path, to: &Path, depth: usize) -> anyhow::Result<()> {
    let found = fs::metadata(from).with_context(|| format!("cannot copy {}", from.display()))?;
    if found.is_dir() {
        fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
        copy_folder(from, to, &[], depth + 1)?;
        // Last, for the folder may be one that nobody may write to.
        fs::set_permissions(to, found.permissions())?;
    } else {
        // A file of the template that the handler replaces may be one that nobody may write to.
        match fs::remove_file(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        // `copy` keeps permissions, but not the set-user-id bit.
        fs::set_permissions(to, found.permissions())?;
    }
    Ok(())
}

/// A path of the project goes to the same path below the handler.
fn copy_extra(project: &Path, extra: &str, overlay: &Path) -> anyhow::Result<()> {
    let path = Path::new(extra);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside || path.components().all(|part| part == Component::CurDir) {
        bail!("it must lie below the project");
    }
    let to = overlay.join(path);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    copy_any(&project.join(path), &to, 0)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    /// What faas-cli 0.18.12 was seen to lay out, case by case.
    const RECORDED: &str = include_str!("../tests/recorded/contexts.json");

    fn mode(text: &Value) -> Option<Permissions> {
        text.as_str().map(|text| Permissions::from_mode(u32::from_str_radix(text, 8).unwrap()))
    }

    fn write(root: &Path, files: &serde_json::Map<String, Value>) {
        for (path, file) in files {
            let path = root.join(path);
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
            let build = project.join("build");
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
