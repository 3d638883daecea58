//! Grant types and their terms.

use serde::{Deserialize, Serialize};

use super::Params;

/// How an account gets its first token, and its next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// A person allows it in a browser (RFC 6749 §4.1); renewed with a refresh token.
    #[default]
    AuthorizationCode,
    /// A person allows it on any device, with a code to type (RFC 8628); renewed with a refresh token.
    DeviceCode,
    /// The client asks for itself (RFC 6749 §4.4); renewed by asking again.
    ClientCredentials,
    /// A signed statement is changed for a token (RFC 7523 §2.1); renewed with the next one. Without a token endpoint the
    /// statement is the API's token itself.
    JwtBearer,
    /// Another token is changed for one (RFC 8693), such as a service account's; renewed by changing it again.
    TokenExchange,
    /// A token that was made by hand, in the secret `api-token`.
    Static,
    /// A user and a password, in the secrets `api-user` and `api-password`.
    Basic,
}

impl Grant {
    /// Every grant with its name in the configuration.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("authorization_code", Self::AuthorizationCode),
        ("device_code", Self::DeviceCode),
        ("client_credentials", Self::ClientCredentials),
        ("jwt_bearer", Self::JwtBearer),
        ("token_exchange", Self::TokenExchange),
        ("static", Self::Static),
        ("basic", Self::Basic),
    ];

    /// The name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        // Every grant is in the list.
        Self::NAMES.iter().find(|(_, grant)| *grant == self).map_or("", |(name, _)| name)
    }

    /// Whether new tokens come by asking again: without a person, and without a refresh token.
    #[must_use]
    pub fn asks_again(self) -> bool {
        !matches!(self, Self::AuthorizationCode | Self::DeviceCode)
    }

    /// Whether a token endpoint is asked at all; else the credentials are the token.
    #[must_use]
    pub fn uses_token_endpoint(self) -> bool {
        !matches!(self, Self::Static | Self::Basic)
    }
}

/// What an assertion says (RFC 7523 §3), where the provider has its own idea of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AssertionTerms {
    /// `aud`, which may hold variables; the issuer where that is known, else the token endpoint, where nothing is said.
    pub audience: Option<String>,
    /// `iss`, which may hold variables, `{client_id}` and `{key_fingerprint}` (the SHA-256 digest of the public key's DER in
    /// base64); the client's id where nothing is said.
    pub issuer: Option<String>,
    /// `sub`: the account that the token is for, as `issuer`; `iss` where nothing is said.
    pub subject: Option<String>,
    /// The name of the claim that holds the scope; a form field holds it where nothing is said.
    pub scope_claim: Option<String>,
    /// How long it is good for, in seconds.
    pub lifetime: Option<u64>,
    /// How an RSA key signs, this statement and the client's own; for the client's own what the server's metadata lists,
    /// else `RS256`, where nothing is said. Keys of other kinds have one way each.
    pub algorithm: Option<RsaAlgorithm>,
    /// The client's secret signs in place of a private key, by HMAC with SHA-256 (`HS256`): how the secret is written.
    pub hmac: Option<KeyText>,
    /// `kid`, as `issuer`; the key's own or the variable `key_id` where nothing is said.
    pub key_id: Option<String>,
    /// Further or other claims, as `issuer`; one whose value is empty is left out.
    pub claims: Params,
}

/// How a key for an HMAC is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KeyText {
    /// The text itself is the key.
    Text,
    /// Hexadecimal.
    Hex,
    /// Base64.
    Base64,
}

/// How an RSA key signs (RFC 7518 §3.3, §3.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum RsaAlgorithm {
    /// PKCS#1 v1.5 with SHA-256.
    #[default]
    Rs256,
    /// PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// PSS with SHA-256.
    Ps256,
}

impl RsaAlgorithm {
    /// Every algorithm, in our order of preference.
    pub const ALL: [Self; 4] = [Self::Rs256, Self::Ps256, Self::Rs384, Self::Rs512];

    /// The name in a JWT's header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
        }
    }
}

impl AssertionTerms {
    /// These, and where they say nothing the others.
    pub(super) fn over(self, under: Self) -> Self {
        Self {
            audience: self.audience.or(under.audience),
            issuer: self.issuer.or(under.issuer),
            subject: self.subject.or(under.subject),
            scope_claim: self.scope_claim.or(under.scope_claim),
            lifetime: self.lifetime.or(under.lifetime),
            algorithm: self.algorithm.or(under.algorithm),
            hmac: self.hmac.or(under.hmac),
            key_id: self.key_id.or(under.key_id),
            claims: if self.claims.is_empty() { under.claims } else { self.claims },
        }
    }
}

/// What is changed for a token (RFC 8693 §2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ExchangeTerms {
    /// The file that holds the subject token; read anew each time, since a projected one changes.
    pub subject_token_file: String,
    /// What kind of token that is.
    pub subject_token_type: String,
    /// The audience of the new token; OpenFaaS takes `NAMESPACE:FUNCTION`.
    pub audience: Vec<String>,
}

impl Default for ExchangeTerms {
    /// OpenFaaS's own: a function's projected service account token.
    fn default() -> Self {
        Self {
            subject_token_file: "/var/secrets/tokens/openfaas-token".into(),
            subject_token_type: "urn:ietf:params:oauth:token-type:id_token".into(),
            audience: Vec::new(),
        }
    }
}
