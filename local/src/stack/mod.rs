//! The stack file, as faas-cli reads it.

mod envsubst;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::build_context::{Context, Template};
use crate::functions::{BUILD_SCRIPT, NAMESPACE, Resources, Spec};

/// A parsed stack file.
#[derive(Debug)]
pub(crate) struct Stack {
    project: PathBuf,
    functions: BTreeMap<String, Function>,
    copy: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct File {
    version: Option<String>,
    provider: Option<Provider>,
    functions: Option<BTreeMap<String, Function>>,
    configuration: Option<Configuration>,
}

#[derive(Debug, Deserialize)]
struct Provider {
    #[serde(default)]
    name: String,
}

#[derive(Debug, Deserialize)]
struct Configuration {
    copy: Option<Vec<String>>,
}

/// Null is the empty string.
type Values = BTreeMap<String, Option<String>>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Function {
    lang: String,
    handler: String,
    image: String,
    fprocess: String,
    namespace: String,
    environment: Option<Values>,
    environment_file: Option<Vec<String>>,
    secrets: Option<Vec<String>>,
    labels: Option<Values>,
    annotations: Option<Values>,
    constraints: Option<Vec<String>>,
    limits: Option<Resources>,
    requests: Option<Resources>,
    readonly_root_filesystem: bool,
    build_args: Option<Values>,
}

#[derive(Debug, Deserialize)]
struct EnvironmentFile {
    environment: Option<Values>,
}

impl Stack {
    /// Reads `file`, or else `stack.yaml` or `stack.yml` of the project.
    pub(crate) fn read(
        project: &Path,
        file: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let file = match file {
            Some(file) => project.join(file),
            None => ["stack.yaml", "stack.yml"]
                .iter()
                .map(|name| project.join(name))
                .find(|file| file.is_file())
                .with_context(|| format!("there is no stack.yaml in {}; name one with -f", project.display()))?,
        };
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read the stack file {}", file.display()))?;
        Self::parse(project, &text, variable).with_context(|| format!("cannot parse the stack file {}", file.display()))
    }

    fn parse(project: &Path, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let text = envsubst::substitute(text, variable)?;
        let file: File = serde_saphyr::from_str(&text)?;
        if let Some(version) = file.version.filter(|version| !version.is_empty() && version != "1.0") {
            bail!("version: {version} is not supported; it must be 1.0");
        }
        match file.provider.map(|provider| provider.name) {
            Some(name) if name == "openfaas" => {}
            Some(name) => bail!("provider.name: {name:?} is not supported; it must be openfaas"),
            None => bail!("provider: missing; it must have `name: openfaas`"),
        }
        let functions = file.functions.unwrap_or_default();
        if functions.is_empty() {
            bail!("functions: none");
        }
        for (name, function) in &functions {
            if !["", NAMESPACE].contains(&function.namespace.as_str()) {
                bail!(
                    "functions.{name}.namespace: {} does not exist; the only namespace is {NAMESPACE}",
                    function.namespace
                );
            }
        }
        let copy = file.configuration.and_then(|configuration| configuration.copy).unwrap_or_default();
        Ok(Self { project: project.to_owned(), functions, copy })
    }

    /// The functions' names in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }

    /// The function of a deployment: the one of this name, or else of this image.
    pub(crate) fn find(&self, name: &str, image: &str) -> Option<&str> {
        let (found, _) = self.functions.get_key_value(name).or_else(|| {
            self.functions.iter().find(|(_, function)| !image.is_empty() && tagged(&function.image) == tagged(image))
        })?;
        Some(found)
    }

    /// The deployment that `faas-cli deploy` sends for a function.
    pub(crate) fn spec(&self, name: &str) -> anyhow::Result<Spec> {
        let function = self.function(name)?;
        let mut env_vars = strings(&function.environment);
        for file in function.environment_file.iter().flatten() {
            let path = self.project.join(file);
            let text = fs::read_to_string(&path)
                .with_context(|| format!("functions.{name}.environment_file: cannot read {}", path.display()))?;
            let file: EnvironmentFile = serde_saphyr::from_str(&text)
                .with_context(|| format!("functions.{name}.environment_file: cannot parse {}", path.display()))?;
            env_vars.extend(strings(&file.environment));
        }
        // The template's value wins; a prebuilt function needs no template.
        let template = Template::read(&self.project, &function.lang).unwrap_or_default();
        let fprocess = if template.fprocess.is_empty() { function.fprocess.clone() } else { template.fprocess };
        Ok(Spec {
            service: name.to_owned(),
            image: tagged(&function.image),
            namespace: function.namespace.clone(),
            env_process: fprocess,
            env_vars,
            constraints: function.constraints.clone().unwrap_or_default(),
            secrets: function.secrets.clone().unwrap_or_default(),
            labels: strings(&function.labels),
            annotations: strings(&function.annotations),
            limits: function.limits.clone(),
            requests: function.requests.clone(),
            read_only_root_filesystem: function.readonly_root_filesystem,
        })
    }

    /// Whether there is a function of this name; the error lists those that there are.
    pub(crate) fn check(&self, name: &str) -> anyhow::Result<()> {
        self.function(name).map(drop)
    }

    /// Whether a function's template has a script that builds without Docker; the error is the reason why it has not.
    pub(crate) fn can_build(&self, name: &str) -> Result<(), String> {
        let lang = self.functions.get(name).map_or("", |function| function.lang.as_str());
        let template = self.project.join("template").join(lang);
        if lang.is_empty() {
            Err("the stack file does not name its language (lang)".to_owned())
        } else if !template.is_dir() {
            Err(format!("there is no template {lang} in {}", self.project.join("template").display()))
        } else if !template.join(BUILD_SCRIPT).is_file() {
            Err(format!("its template {lang} has no {BUILD_SCRIPT}; only Rust functions run here"))
        } else {
            Ok(())
        }
    }

    /// The build context of a function, and its build arguments.
    pub(crate) fn context(&self, name: &str, state: &Path) -> anyhow::Result<(Context, Vec<(String, String)>)> {
        let function = self.function(name)?;
        if function.lang.is_empty() {
            bail!("functions.{name}.lang: missing");
        }
        let context = Context {
            project: self.project.clone(),
            state: state.to_owned(),
            name: name.to_owned(),
            lang: function.lang.clone(),
            handler: function.handler.clone(),
            copy: self.copy.clone(),
        };
        Ok((context, strings(&function.build_args).into_iter().collect()))
    }

    fn function(&self, name: &str) -> anyhow::Result<&Function> {
        self.functions.get(name).with_context(|| {
            let names: Vec<_> = self.names().collect();
            format!("the stack file has no function {name}; it has {}", names.join(", "))
        })
    }
}

fn strings(values: &Option<Values>) -> BTreeMap<String, String> {
    let text = |(name, value): (&String, &Option<String>)| (name.clone(), value.clone().unwrap_or_default());
    values.iter().flatten().map(text).collect()
}

/// The image with `:latest` where it has no tag, as faas-cli writes it.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if image.is_empty() || last.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests;
