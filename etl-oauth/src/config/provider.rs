//! The provider: a definition by name or from a file, with what the variables lay over it.

use std::{fs, path::Path};

use url::Url;

use super::{endpoint, parse::Strings, redirect_uri};
use crate::provider::{Definition, Overrides, Provider, Source, Values};

/// A definition is a few kilobytes; a file that is larger is another one.
const FILE_LIMIT: u64 = 256 << 10;

pub(super) fn provider(strings: &mut Strings<'_>, public_url: Option<&Url>) -> Option<Provider> {
    // All variables are read before a definition that is missing ends it: every mistake is told at once.
    let overrides = Overrides {
        issuer: strings.text("issuer"),
        authorize_url: strings.parsed("authorize_url", endpoint),
        token_url: strings.parsed("token_url", endpoint),
        refresh_url: strings.parsed("refresh_url", endpoint),
        revoke_url: strings.parsed("revoke_url", endpoint),
        api_url: strings.parsed("api_url", endpoint),
        scope: strings.text("scope").map(|text| text.split_whitespace().map(str::to_owned).collect()),
        client_auth: strings.named("client_auth"),
        pkce: strings.named("pkce"),
        replay_window: strings.duration("replay_window"),
        refresh_idle: strings.duration("refresh_idle"),
        variables: Values::new(),
        redirect_uri: public_url.map(redirect_uri),
    };
    let (name, definition) = definition(strings)?;
    let overrides = Overrides { variables: variables(strings, &definition), ..overrides };
    match Provider::new(&name, definition, overrides) {
        Ok(provider) => {
            if provider.authorize_url.is_none() {
                strings
                    .mistake(format!("provider {name} has no authorization endpoint: set the variable authorize_url"));
            }
            Some(provider)
        }
        Err(wrong) => {
            wrong.into_iter().for_each(|line| strings.mistake(line));
            None
        }
    }
}

fn definition(strings: &mut Strings<'_>) -> Option<(String, Definition)> {
    let (wanted, file) = (strings.text("provider"), strings.text("provider_file"));
    if let Some(file) = file {
        let stem = Path::new(&file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(wanted) = wanted.filter(|wanted| *wanted != stem) {
            strings.mistake(format!(
                "provider={wanted} is not what provider_file brings: leave provider out, or set provider={stem}"
            ));
        }
        return match read(&file) {
            Ok(definition) => Some((stem, definition)),
            Err(wrong) => {
                wrong.into_iter().for_each(|line| strings.mistake(line));
                None
            }
        };
    }
    let names = || Definition::names().collect::<Vec<_>>().join(", ");
    let Some(name) = wanted else {
        strings.mistake(format!("provider is not set: it names who issues the tokens, one of {}", names()));
        return None;
    };
    let Some(definition) = Definition::builtin(&name) else {
        let names = names();
        strings.mistake(format!(
            "provider={name} is not known: it is one of {names}; provider_file reads one of your own"
        ));
        return None;
    };
    Some((name, definition))
}

fn read(file: &str) -> Result<Definition, Vec<String>> {
    let failed = |why: String| vec![format!("provider_file={file}: {why}")];
    match fs::metadata(file) {
        Err(err) => return Err(failed(format!("cannot be read: {err}"))),
        Ok(meta) if !meta.is_file() || meta.len() > FILE_LIMIT => {
            return Err(failed("is not a TOML file of a provider definition".into()));
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(file).map_err(|err| failed(format!("cannot be read: {err}")))?;
    Definition::read(file, &text)
}

/// The variables that this definition asks for: `provider_NAME` each.
fn variables(strings: &mut Strings<'_>, definition: &Definition) -> Values {
    let asked = definition.variables.iter().filter(|(_, variable)| variable.from == Source::Configuration);
    asked.filter_map(|(name, _)| Some((name.clone(), strings.text(&format!("provider_{name}"))?))).collect()
}
