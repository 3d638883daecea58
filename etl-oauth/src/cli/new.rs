//! `provider new FILE`: writes a definition, from a server's metadata where there is a server to ask, else from what a person
//! answers.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, Write as _},
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::json;
use url::Url;

use token_keeper::{
    grant::{self, ClientMetadata, Discovered, HttpClient, RegisteredClient},
    provider::{ClientAuth, Definition, checked_url},
    token::Failure as Refused,
};

use super::{Exit, Failure, Outcome, arguments::New, print, print_json};

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A definition as it is written: keys with their values in TOML, in this order, below comments.
#[derive(Debug, Default)]
struct Draft {
    comments: Vec<String>,
    lines: Vec<(&'static str, String)>,
}

/// `provider new`.
pub(super) async fn new(wish: &New) -> Outcome {
    if wish.file.exists() {
        let message = format!("{} is there already", wish.file.display());
        return Err(Failure::new(Exit::Failed, "exists", message, "Name a file that is not there yet."));
    }
    let found = match (&wish.resource, &wish.issuer) {
        (Some(resource), _) => Some(found(grant::discover(resource, &wire()?).await)?),
        (None, Some(issuer)) => {
            let metadata = found(grant::metadata(issuer, &wire()?).await)?;
            Some(Discovered { resource: None, issuer: issuer.clone(), metadata })
        }
        (None, None) => None,
    };
    let mut registered = None;
    if let Some(redirect_uri) = &wish.register {
        let found = found.as_ref();
        let found = found.ok_or_else(|| {
            Failure::new(Exit::Failed, "no_server", "nothing says where to register", "Name --resource or --issuer.")
        })?;
        registered = Some(register(found, redirect_uri).await?);
    }
    let draft = match &found {
        Some(found) => Draft::of(found, wish.resource.as_ref(), registered.as_ref()),
        None => {
            Draft::asked(&mut io::stdin().lock(), &mut io::stderr()).map_err(|err| unwritten("the answers", &err))?
        }
    };
    let (name, text) = (wish.file.display().to_string(), draft.text());
    // What is written here must be what the function reads.
    if let Err(mistakes) = Definition::read(&name, &text) {
        let message = format!("these answers make no definition: {}", mistakes.join("; "));
        return Err(Failure::new(Exit::Mistaken, "bad_definition", message, "Answer again; nothing was written."));
    }
    write(&wish.file, &text, 0o644)?;
    let mut written = vec![name];
    if let (Some(client), Some(folder)) = (&registered, &wish.secrets) {
        written.extend(keep(client, folder)?);
    }
    report(wish, &written, registered.as_ref());
    Ok(Exit::Done)
}

fn report(wish: &New, written: &[String], registered: Option<&RegisteredClient>) {
    let ends_at = registered.and_then(|client| client.secret_ends_at);
    if wish.shape.json {
        let ends_at = ends_at.map(|end| end.to_string());
        print_json(&json!({ "written": written, "registered": registered.is_some(), "secret_ends_at": ends_at }));
        return;
    }
    written.iter().for_each(|file| print(&format!("Wrote {file}.")));
    if let Some(end) = ends_at {
        print(&format!("The client's secret ends at {end}: register again before that."));
    }
    print(&format!("Next: etl-oauth provider test {}", wish.file.display()));
}

fn wire() -> Result<HttpClient, Failure> {
    HttpClient::http(TIMEOUT).map_err(|err| Failure::new(Exit::Failed, "tls", err.to_string(), "Try again."))
}

fn found<T>(result: Result<T, Refused>) -> Result<T, Failure> {
    result.map_err(|failure| {
        Failure::new(
            Exit::Failed,
            "not_found",
            failure.to_string(),
            "Compare the address with the provider's documentation.",
        )
    })
}

/// Registers a client for this redirect URI (RFC 7591).
async fn register(found: &Discovered, redirect_uri: &Url) -> Result<RegisteredClient, Failure> {
    let Some(url) = &found.metadata.registration_url else {
        let message = format!("{} registers no clients by itself", found.issuer);
        return Err(Failure::new(
            Exit::Failed,
            "no_registration",
            message,
            "Register one by hand, and leave --register out.",
        ));
    };
    let scope = found.resource.as_ref().map(|resource| resource.scopes.join(" ")).unwrap_or_default();
    let client = ClientMetadata {
        name: "etl-oauth",
        redirect_uri: redirect_uri.as_str(),
        scope: &scope,
        client_auth: grant::wanted_auth(&found.metadata),
    };
    let raw = wire()?.send(grant::registration(url, &client)).await.map_err(|lost| lost.into_failure());
    let registered = raw.and_then(|raw| grant::judge_registration(&raw));
    registered.map_err(|failure| {
        Failure::new(
            Exit::Failed,
            "not_registered",
            failure.to_string(),
            "Register a client by hand, and leave --register out.",
        )
    })
}

impl Draft {
    fn of(found: &Discovered, api: Option<&Url>, registered: Option<&RegisteredClient>) -> Self {
        let (metadata, mut draft) = (&found.metadata, Self::default());
        let read = Timestamp::now().strftime("%Y-%m");
        draft.comments.push(format!("# Facts: the metadata of {}, read {read}.", found.issuer));
        draft.comments.push("# Not known: what the metadata does not say: lifetimes, rotation, limits.".into());
        let issuer_host = found.issuer.parse::<Url>().ok().and_then(|url| url.host_str().map(str::to_owned));
        let host = api.and_then(Url::host_str).map(str::to_owned).or(issuer_host);
        let name = found.resource.as_ref().and_then(|resource| resource.name.clone()).or(host);
        draft.set("title", name.map(|name| quoted(&name)));
        draft.set("issuer", Some(quoted(&found.issuer)));
        draft.set("api_url", api.map(|api| quoted(api.as_str())));
        let resource = found.resource.as_ref();
        draft.set("resource", resource.map(|resource| list(std::slice::from_ref(&resource.resource))));
        draft.set("scope", resource.filter(|it| !it.scopes.is_empty()).map(|resource| list(&resource.scopes)));
        // A public client is one without a secret, whatever the server would take.
        let auth = match registered {
            Some(client) if client.secret.is_none() => ClientAuth::None,
            Some(client) => client.client_auth.unwrap_or_else(|| grant::wanted_auth(metadata)),
            None => grant::wanted_auth(metadata),
        };
        draft.set("client_auth", Some(json!(auth).to_string()));
        draft.set("pkce", (metadata.s256 == Some(false)).then(|| quoted("off")));
        draft
    }

    /// What a person answers; an empty answer leaves a field out.
    fn asked(answers: &mut impl BufRead, out: &mut impl io::Write) -> io::Result<Self> {
        let mut ask = |question: &str| -> io::Result<Option<String>> {
            write!(out, "{question}: ")?;
            out.flush()?;
            let mut line = String::new();
            answers.read_line(&mut line)?;
            Ok(Some(line.trim().to_owned()).filter(|line| !line.is_empty()))
        };
        let mut draft = Self::default();
        draft.set("title", ask("What people call the provider")?.as_deref().map(quoted));
        let facts = ask("The page with its OAuth documentation")?;
        let authorize = ask("Where a person is asked (authorize_url; empty where no person is)")?;
        draft.set("authorize_url", authorize.as_deref().map(quoted));
        draft.set("token_url", ask("Where codes become tokens (token_url)")?.as_deref().map(quoted));
        draft.set("revoke_url", ask("Where tokens are revoked (revoke_url)")?.as_deref().map(quoted));
        draft.set("api_url", ask("The API, up to its version (api_url)")?.as_deref().map(quoted));
        if authorize.is_none() {
            draft.set("grant", Some(quoted("client_credentials")));
        }
        let words =
            |text: String| text.split([' ', ',']).filter(|it| !it.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        draft.set("scope", ask("The scopes, separated by spaces")?.map(|text| list(&words(text))));
        let auth = ask("How the client proves itself: basic, post, none, private_key_jwt [basic]")?;
        draft.set("client_auth", auth.as_deref().filter(|auth| *auth != "basic").map(quoted));
        let pkce = ask("Does it know PKCE? yes or no [yes]")?;
        draft.set("pkce", pkce.filter(|answer| answer.starts_with(['n', 'N'])).map(|_| quoted("off")));
        let rotates =
            ask("Does each renewal bring a new refresh token and end the old one? yes, no or empty [not known]")?;
        draft.set("rotates", rotates.map(|answer| answer.starts_with(['y', 'Y']).to_string()));
        let read = Timestamp::now().strftime("%Y-%m");
        let facts = facts.unwrap_or_else(|| "asked of a person".into());
        draft.comments.push(format!("# Facts: {facts}, read {read}."));
        draft.comments.push("# Not known: what stands nowhere here.".into());
        Ok(draft)
    }

    fn set(&mut self, key: &'static str, value: Option<String>) {
        self.lines.extend(value.map(|value| (key, value)));
    }

    fn text(&self) -> String {
        let comments = self.comments.iter().map(|line| line.replace(['\n', '\r'], " ") + "\n");
        let lines = self.lines.iter().map(|(key, value)| format!("{key} = {value}\n"));
        std::iter::once("#:schema ./schema.json\n".to_owned()).chain(comments).chain(lines).collect()
    }
}

/// A TOML string: JSON's is one.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

fn list(words: &[String]) -> String {
    json!(words).to_string()
}

/// Puts the client's credentials into a folder of secrets; gives the names of the files.
fn keep(client: &RegisteredClient, folder: &Path) -> Result<Vec<String>, Failure> {
    std::fs::create_dir_all(folder).map_err(|err| unwritten(&folder.display().to_string(), &err))?;
    let secret = client.secret.as_ref().map(|secret| ("oauth2-client-secret", secret.expose()));
    let files = std::iter::once(("oauth2-client-id", client.id.as_str())).chain(secret);
    files
        .map(|(name, value)| {
            let path = folder.join(name);
            write(&path, value, 0o600)?;
            Ok(path.display().to_string())
        })
        .collect()
}

/// Writes a file that is not there yet.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|err| unwritten(&path.display().to_string(), &err))
}

fn unwritten(what: &str, err: &io::Error) -> Failure {
    Failure::new(Exit::Failed, "unwritten", format!("{what}: {err}"), "Name a place that can be written.")
}

/// The redirect URI of a function: an address that the provider can lead a person back to.
pub(super) fn redirect_uri(text: &str) -> Result<Url, String> {
    checked_url(text).map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafted(answers: &str) -> String {
        let mut questions = Vec::new();
        let draft = Draft::asked(&mut answers.as_bytes(), &mut questions).unwrap();
        assert!(String::from_utf8(questions).unwrap().contains("token_url"));
        draft.text()
    }

    #[test]
    fn answers_become_a_definition_that_the_function_reads() {
        let text = drafted(
            "A \"quoted\" name\nhttps://a.example/docs\nhttps://a.example/authorize\nhttps://a.example/token\n\n\
             https://api.a.example\nread write,more\npost\nno\nyes\n",
        );
        let definition = Definition::read("acme.toml", &text).unwrap();
        assert_eq!(definition.title.as_deref(), Some("A \"quoted\" name"));
        assert_eq!((definition.scope.len(), definition.client_auth), (3, ClientAuth::Post));
        assert_eq!((definition.pkce, definition.rotates), (token_keeper::provider::Pkce::Off, Some(true)));
        assert!(text.contains("# Facts: https://a.example/docs, read 20") && definition.revoke_url.is_none());
    }

    #[test]
    fn where_no_person_is_asked_the_client_asks_for_itself() {
        let text = drafted("A\n\n\nhttps://a.example/token\n");
        let definition = Definition::read("acme.toml", &text).unwrap();
        assert_eq!(definition.grant, token_keeper::provider::Grant::ClientCredentials);
    }
}
