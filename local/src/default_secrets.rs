//! Initial values of the secrets that functions list, so that they can be tried at once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use anyhow::{Context as _, bail};

use crate::functions::Spec;
use crate::gateway::{DEFAULT_USER, PASSWORD, USER};
use crate::provider::{Client, private_pem};
use crate::random;
use crate::secrets::Secrets;

const CLIENT_ID: &str = "oauth2-client-id";
const CLIENT_SECRET: &str = "oauth2-client-secret";
const PRIVATE_KEY: &str = "oauth2-private-key";
const OPERATOR: &str = "etl-oauth-operator";

/// The name of the operator's secret, where the function lists one.
pub(crate) fn operator(spec: &Spec) -> Option<String> {
    let name = format!("{}{OPERATOR}", prefix(spec));
    spec.secrets.contains(&name).then_some(name)
}

fn prefix(spec: &Spec) -> &str {
    spec.env_vars.get("secret_prefix").map_or("", String::as_str)
}

/// Creates the secrets that are missing, and returns the clients that the sandbox must know. What a real provider must
/// have given is never made up for one.
pub(crate) fn create_missing<'a>(
    secrets: &Secrets,
    specs: impl Iterator<Item = &'a Spec>,
    real: bool,
) -> anyhow::Result<Vec<Client>> {
    make(secrets, PASSWORD, &random::token()?)?;
    let mut clients = Vec::new();
    for spec in specs {
        let prefix = prefix(spec);
        for name in &spec.secrets {
            if secrets.exists(name) {
                continue;
            }
            let plain = name.strip_prefix(prefix).unwrap_or(name);
            let given = real && [CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY].contains(&plain);
            let Some(value) = (if given { None } else { first_value(plain, &spec.service)? }) else {
                let path = secrets.path(name);
                bail!("function {} needs the secret {name}: put its value into {}", spec.service, path.display());
            };
            make(secrets, name, &value)?;
        }
        let read = |name: &str| {
            let name = format!("{prefix}{name}");
            if spec.secrets.contains(&name) { secrets.read(&name).map(Some) } else { Ok(None) }
        };
        let read = |name| read(name).with_context(|| format!("cannot read the secret {name}"));
        let Some(id) = read(CLIENT_ID)? else { continue };
        if real && id == sandbox_client(&spec.service) {
            let path = secrets.path(&format!("{prefix}{CLIENT_ID}"));
            bail!(
                "{} holds the client id of the sandbox: put the one that the provider gave you into it, and its secret \
                 into {CLIENT_SECRET} beside it",
                path.display()
            );
        }
        let client =
            read(CLIENT_SECRET)?.map_or_else(|| Client::without_secret(&id), |secret| Client::new(&id, secret));
        clients.push(match read(PRIVATE_KEY)? {
            Some(key) => client.with_key(&key),
            None => client,
        });
    }
    Ok(clients)
}

/// The client id that is made up for a function.
fn sandbox_client(function: &str) -> String {
    format!("{function}-sandbox")
}

fn first_value(name: &str, function: &str) -> anyhow::Result<Option<String>> {
    Ok(Some(match name {
        PRIVATE_KEY => private_pem()?,
        CLIENT_ID => sandbox_client(function),
        // The placeholder for "not authorised yet".
        "oauth2-access-token" | "oauth2-refresh-token" | "oauth2-token" => "empty".to_owned(),
        USER => DEFAULT_USER.to_owned(),
        CLIENT_SECRET | PASSWORD | OPERATOR => random::token()?,
        // In the format of Standard Webhooks; other callers use it as any secret.
        "etl-oauth-invoke" => format!("whsec_{}", STANDARD.encode(random::bytes::<32>()?)),
        "etl-oauth-seal-keys" => format!("local:{}", STANDARD.encode(random::bytes::<32>()?)),
        _ => return Ok(None),
    }))
}

fn make(secrets: &Secrets, name: &str, value: &str) -> anyhow::Result<()> {
    if secrets.exists(name) {
        return Ok(());
    }
    let made = secrets.create(name, value.as_bytes());
    made.map_err(|problem| {
        anyhow::anyhow!("cannot write the secret {name} to {}: {problem:?}", secrets.path(name).display())
    })
}
