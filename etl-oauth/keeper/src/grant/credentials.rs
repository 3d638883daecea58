//! The client's credentials in mounted secrets.

use jiff::Timestamp;

use super::{Certificate, Client, KeyError, SigningKey, assertion::client_assertion};
use crate::{
    provider::{self, ClientAuth, Definition, Grant, Provider},
    secrets::Secrets,
    token::{Failure, FailureKind, Secret},
};

/// The client's credentials, read anew for every call: a rotated secret must not need a restart.
#[derive(Clone, Debug)]
pub struct Credentials(Source);

#[derive(Clone, Debug)]
enum Source {
    Mounted { secrets: Secrets, key_id: Option<String> },
    Fixed(Client),
}

const ID: &str = "oauth2-client-id";
const SECRET: &str = "oauth2-client-secret";
const KEY: &str = "oauth2-private-key";
const CERTIFICATE: &str = "oauth2-client-certificate";

impl Credentials {
    /// Those in mounted secrets; `key_id` is what the provider calls the private key.
    #[must_use]
    pub fn mounted(secrets: Secrets, key_id: Option<String>) -> Self {
        Self(Source::Mounted { secrets, key_id })
    }

    /// The same for every call: for tests and simulations.
    #[must_use]
    pub fn fixed(client: Client) -> Self {
        Self(Source::Fixed(client))
    }

    /// The secrets that a grant needs with this way of proving who the client is. `None`: not configured, and
    /// the server's metadata decides.
    #[must_use]
    pub fn needed(grant: Grant, auth: Option<ClientAuth>) -> Vec<&'static str> {
        let proof: &[_] = match auth {
            None | Some(ClientAuth::None) => &[],
            Some(ClientAuth::PrivateKeyJwt) => &[KEY],
            Some(ClientAuth::TlsClientAuth) => &[CERTIFICATE, KEY],
            Some(_) => &[SECRET],
        };
        let anonymous = auth == Some(ClientAuth::None);
        let own: &[_] = match grant {
            Grant::Static => return vec!["api-token"],
            Grant::Basic => return vec!["api-user", "api-password"],
            Grant::TokenExchange if anonymous => &[],
            // A service account's file says whose it is.
            Grant::JwtBearer if anonymous => &[KEY],
            Grant::JwtBearer => &[ID, KEY],
            _ => &[ID],
        };
        own.iter().chain(proof.iter().filter(|name| !own.contains(name))).copied().collect()
    }

    /// The secrets that a definition's grant needs, as [`Credentials::needed`]: where its requests name no client, as in a
    /// login by user and password, the client's id is not among them.
    #[must_use]
    pub fn needed_by(definition: &Definition, auth: Option<ClientAuth>) -> Vec<&'static str> {
        let mut needed = Self::needed(definition.grant, auth);
        if auth == Some(ClientAuth::None) && !definition.names_client() {
            needed.retain(|name| *name != ID);
        }
        if definition.grant == Grant::JwtBearer {
            let signs = if definition.assertion.hmac.is_some() { SECRET } else { KEY };
            if definition.is_self_signed() {
                needed = if definition.names_client_in_statement() { vec![ID, signs] } else { vec![signs] };
            } else if signs == SECRET {
                needed.retain(|name| *name != KEY || auth == Some(ClientAuth::PrivateKeyJwt));
                needed.extend((!needed.contains(&SECRET)).then_some(SECRET));
            }
        }
        if definition.client_certificate {
            let missing: Vec<_> = [CERTIFICATE, KEY].into_iter().filter(|name| !needed.contains(name)).collect();
            needed.extend(missing);
        }
        needed
    }

    /// The secrets that the variables of a definition name.
    pub fn named(provider: &Provider) -> impl Iterator<Item = &str> {
        let named = provider.variables.iter().filter(|(_, variable)| variable.from == provider::Source::Secret);
        named.map(|(name, variable)| variable.at(name))
    }

    /// Whether what is mounted is enough for this way of proving who the client is.
    #[must_use]
    pub fn suffice_for(&self, auth: ClientAuth) -> bool {
        match (&self.0, auth) {
            (Source::Fixed(client), ClientAuth::PrivateKeyJwt) => client.assertion.is_some(),
            (Source::Fixed(client), ClientAuth::TlsClientAuth) => client.certificate.is_some(),
            (Source::Fixed(client), _) => client.secret.is_some() || auth == ClientAuth::None,
            (Source::Mounted { .. }, ClientAuth::None) => true,
            (Source::Mounted { secrets, .. }, ClientAuth::PrivateKeyJwt) => secrets.require(KEY).is_ok(),
            (Source::Mounted { secrets, .. }, ClientAuth::TlsClientAuth) => {
                secrets.require(CERTIFICATE).is_ok() && secrets.require(KEY).is_ok()
            }
            (Source::Mounted { secrets, .. }, _) => secrets.require(SECRET).is_ok(),
        }
    }

    /// The client's id, where it can be read.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        match &self.0 {
            Source::Fixed(client) => Some(client.id.clone()),
            Source::Mounted { secrets, .. } => Some(secrets.read(ID).ok()??.expose().to_owned()),
        }
    }

    /// Digest of all that proves who the client is: another one once any of it is replaced.
    #[must_use]
    pub fn digest(&self) -> String {
        let parts: Vec<Option<Secret>> = match &self.0 {
            Source::Fixed(client) => vec![Some(Secret::new(&*client.id)), client.secret.clone()],
            Source::Mounted { secrets, .. } => {
                [ID, SECRET, KEY, CERTIFICATE].map(|name| secrets.read(name).ok().flatten()).into()
            }
        };
        let digests: Vec<String> =
            parts.iter().map(|part| part.as_ref().map_or_else(String::new, Secret::digest)).collect();
        Secret::new(digests.join(" ")).digest()
    }

    /// The client, ready for one call.
    ///
    /// # Errors
    /// A failure of class `config` that names the secret.
    pub fn client(&self, provider: &Provider, now: Timestamp) -> Result<Client, Failure> {
        let secrets = match &self.0 {
            Source::Fixed(client) => return Ok(client.clone()),
            Source::Mounted { secrets, .. } => secrets,
        };
        // Where no token endpoint is asked, no client proves itself there.
        let auth = if provider.asks_token_endpoint() { provider.client_auth } else { ClientAuth::None };
        let id = if Self::needed_by(provider, Some(auth)).contains(&ID) {
            require(secrets, ID)?
        } else {
            secrets.read(ID).ok().flatten().unwrap_or_else(|| Secret::new(""))
        };
        let id = id.expose().to_owned();
        let named = provider.variables.iter().filter(|(_, variable)| variable.from == provider::Source::Secret);
        let named = named.map(|(name, variable)| Ok((name.clone(), require(secrets, variable.at(name))?)));
        let mut client = Client { id, secrets: named.collect::<Result<_, Failure>>()?, ..Client::default() };
        match auth {
            ClientAuth::None => {}
            ClientAuth::PrivateKeyJwt => {
                let signed = client_assertion(provider, &self.private_key()?, &client.id, now);
                client.assertion = Some(signed.map_err(|err| unusable(secrets, err))?);
            }
            ClientAuth::TlsClientAuth => client.certificate = Some(certificate(secrets)?),
            _ => client.secret = Some(require(secrets, SECRET)?),
        }
        if provider.client_certificate && client.certificate.is_none() {
            client.certificate = Some(certificate(secrets)?);
        }
        Ok(client)
    }

    /// The key that signs statements of this provider: the private one, or the client's secret.
    ///
    /// # Errors
    /// A failure of class `config` that says what is wrong with the secret.
    pub fn key(&self, provider: &Provider) -> Result<SigningKey, Failure> {
        let (Some(text), Source::Mounted { secrets, key_id }) = (provider.assertion.hmac, &self.0) else {
            return self.private_key();
        };
        let key = SigningKey::from_secret(&require(secrets, SECRET)?, text)
            .map_err(|err| Failure::new(FailureKind::Config, format!("secret {} {err}", secrets.name(SECRET))))?;
        Ok(key.with_id(key_id.clone()))
    }

    fn private_key(&self) -> Result<SigningKey, Failure> {
        match &self.0 {
            // One that no server knows: a simulation signs with it.
            Source::Fixed(_) => SigningKey::generate()
                .map_err(|err| Failure::new(FailureKind::Config, format!("the private key {err}"))),
            Source::Mounted { secrets, key_id } => {
                let key = SigningKey::read(&require(secrets, KEY)?).map_err(|err| unusable(secrets, err))?;
                Ok(key.with_id(key_id.clone()))
            }
        }
    }

    /// Any other secret.
    ///
    /// # Errors
    /// A failure of class `config` that names it.
    pub fn secret(&self, name: &str) -> Result<Secret, Failure> {
        match &self.0 {
            Source::Fixed(client) => {
                client.secret.clone().ok_or_else(|| Failure::new(FailureKind::Config, "there is none"))
            }
            Source::Mounted { secrets, .. } => require(secrets, name),
        }
    }
}

fn require(secrets: &Secrets, name: &str) -> Result<Secret, Failure> {
    secrets.require(name).map_err(|err| Failure::new(FailureKind::Config, err.to_string()))
}

/// The mounted certificate with its key.
fn certificate(secrets: &Secrets) -> Result<Certificate, Failure> {
    let (certificate, key) = (require(secrets, CERTIFICATE)?, require(secrets, KEY)?);
    Certificate::read(&certificate, &key)
        .map_err(|err| Failure::new(FailureKind::Config, format!("secret {} {err}", secrets.name(CERTIFICATE))))
}

fn unusable(secrets: &Secrets, err: KeyError) -> Failure {
    Failure::new(FailureKind::Config, format!("secret {} {err}", secrets.name(KEY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h9_a_password_login_whose_definition_takes_the_client_away_needs_no_client_id() {
        let text = "token_url = 'https://p.example/login'\ngrant = 'client_credentials'\nclient_auth = 'none'\n\
                    token.params = { grant_type = '', client_id = '', username = '{user}' }\n\
                    variables.user = { from = 'secret', at = 'api-user' }";
        let read = |text: &str| Definition::read("acme.toml", text).unwrap();
        let login = read(text);
        assert!(Credentials::needed_by(&login, Some(ClientAuth::None)).is_empty());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("api-user"), "me").unwrap();
        let credentials = Credentials::mounted(Secrets::new(folder.path(), ""), None);
        let provider = Provider::new("acme", login, provider::Overrides::default()).unwrap();
        let client = credentials.client(&provider, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((client.id.as_str(), client.secrets["user"].expose()), ("", "me"));
        let named = read(&text.replace("client_id = ''", "app = '{client_id}', client_id = ''"));
        assert_eq!(Credentials::needed_by(&named, Some(ClientAuth::None)), ["oauth2-client-id"]);
        let kept = read(&text.replace("client_id = '', ", ""));
        assert_eq!(Credentials::needed_by(&kept, Some(ClientAuth::None)), ["oauth2-client-id"]);
    }

    #[test]
    fn a_token_made_by_hand_needs_no_client_beside_the_secrets_that_its_api_wants() {
        let text = "grant = 'static'\napi_url = 'https://api.p.example'\napi.headers = { X-Key = '{key}' }\n\
                    variables.key = { from = 'secret', at = 'api-key' }";
        let definition = Definition::read("acme.toml", text).unwrap();
        let provider = Provider::new("acme", definition, provider::Overrides::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("api-key"), "k").unwrap();
        let credentials = Credentials::mounted(Secrets::new(folder.path(), ""), None);
        let client = credentials.client(&provider, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((client.secrets["key"].expose(), client.secret.is_none()), ("k", true));
        let secret = text.replace("{key}", "{key}{client_secret}");
        let wrong = Definition::read("acme.toml", &secret).unwrap_err().join("\n");
        assert!(wrong.contains("api.headers: {client_secret} is not there"), "{wrong}");
    }

    #[test]
    fn each_grant_needs_its_secrets_and_no_others() {
        let needed = |grant, auth| Credentials::needed(grant, auth).join(" ");
        let both = "oauth2-client-id oauth2-client-secret";
        assert_eq!(needed(Grant::AuthorizationCode, Some(ClientAuth::Basic)), both);
        assert_eq!(
            needed(Grant::ClientCredentials, Some(ClientAuth::PrivateKeyJwt)),
            "oauth2-client-id oauth2-private-key"
        );
        assert_eq!(needed(Grant::DeviceCode, Some(ClientAuth::None)), "oauth2-client-id");
        assert_eq!(needed(Grant::JwtBearer, Some(ClientAuth::None)), "oauth2-private-key");
        assert_eq!(needed(Grant::JwtBearer, Some(ClientAuth::PrivateKeyJwt)), "oauth2-client-id oauth2-private-key");
        assert_eq!(needed(Grant::TokenExchange, Some(ClientAuth::None)), "");
        assert_eq!(needed(Grant::TokenExchange, Some(ClientAuth::Post)), both);
        assert_eq!(
            needed(Grant::AuthorizationCode, Some(ClientAuth::TlsClientAuth)),
            "oauth2-client-id oauth2-client-certificate oauth2-private-key"
        );
        assert_eq!(needed(Grant::Static, None), "api-token");
        assert_eq!(needed(Grant::Basic, None), "api-user api-password");
    }
}
