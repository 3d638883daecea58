//! A definition's description of a request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Params;

/// How the client proves who it is at the token endpoint (RFC 6749 §2.3). Configured, never probed: a wrong try can spend
/// a code or a refresh token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// HTTP Basic of the form-encoded id and secret, as RFC 6749 §2.3.1 has it.
    #[default]
    Basic,
    /// HTTP Basic of id and secret as they are, as some servers have it.
    BasicRaw,
    /// HTTP Basic of the secret as user name with an empty password; the id goes along in the body.
    BasicSecret,
    /// `client_id` and `client_secret` in the body.
    Post,
    /// `client_id` in the body, and no secret: a public client.
    None,
    /// A statement that is signed with the client's private key (RFC 7523 §2.2).
    PrivateKeyJwt,
    /// A certificate on the connection, of an authority or the client's own (RFC 8705 §2.1, §2.2); the id goes along in the
    /// body. The secrets `oauth2-client-certificate` and `oauth2-private-key` hold it and its key.
    TlsClientAuth,
}

/// What a client proves itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Nothing,
    Secret,
    Key,
    Certificate,
}

impl ClientAuth {
    /// Whether it is an `Authorization` header.
    pub(super) fn is_header(self) -> bool {
        matches!(self, Self::Basic | Self::BasicRaw | Self::BasicSecret)
    }

    pub(super) fn proof(self) -> Proof {
        match self {
            Self::Basic | Self::BasicRaw | Self::BasicSecret | Self::Post => Proof::Secret,
            Self::None => Proof::Nothing,
            Self::PrivateKeyJwt => Proof::Key,
            Self::TlsClientAuth => Proof::Certificate,
        }
    }
}

/// The HTTP method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// RFC 6749 §3.2 knows no other.
    #[default]
    Post,
    /// Some providers exchange tokens by it.
    Get,
    /// Some providers revoke by it.
    Delete,
}

/// Where the parameters of a request stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// In the body, as a form (RFC 6749 §3.2).
    #[default]
    Form,
    /// In the body, as a JSON object.
    Json,
    /// In the query of the URL, where logs of the provider show them: it needs `secrets_in_query = true` beside it.
    Query,
}

/// A request to one of the provider's endpoints, as far as it is not RFC 6749's own.
///
/// A value of `params` and `headers` may hold placeholders, `{client_id}` for one: what the standard parameter of that name
/// would say, the signed statement of the client (`{client_assertion}`), the time in seconds or milliseconds (`{timestamp}`,
/// `{timestamp_ms}`), 128 random bits (`{random}`), or the value of a variable. A parameter takes the place of the standard one of its name, and one whose value
/// comes out empty is left out. So a parameter is renamed by `{ client_key = "{client_id}", client_id = "" }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Call {
    /// The HTTP method; `POST` where nothing is said.
    pub method: Option<Verb>,
    /// Where the parameters stand; in a form where nothing is said.
    pub format: Option<Format>,
    /// The provider wants secrets in the query of a URL, and that is known to be unsafe (RFC 6749 §2.3.1).
    pub secrets_in_query: bool,
    /// How the client proves who it is in this request, where that differs from `client_auth`.
    pub client_auth: Option<ClientAuth>,
    /// The request is authorised by the token that it is about, as a bearer, and not by the client.
    pub bearer: bool,
    /// A user and a password in an `Authorization` header of HTTP Basic, in place of the client's.
    pub basic: Option<BasicPair>,
    /// Further or other parameters: texts, and in JSON also `true`, numbers, lists and tables.
    pub params: Params,
    /// Further headers. An `Authorization` header that is made of parts takes the place of the client's.
    pub headers: BTreeMap<String, String>,
    /// A signature over the parameters, the body or other values.
    pub sign: Option<Sign>,
}

/// A user and a password, which may hold placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BasicPair {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// An HMAC over the parameters of a request, added as one more of them, or over chosen values, in a header. Its text is
/// `before`, then every parameter in the order of their names, written `name pair value` and joined by `join`; or `text`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Sign {
    /// The parameter that holds the signature, where no header does.
    pub parameter: String,
    /// The header that holds the signature.
    pub header: Option<String>,
    /// What that header says; `{signature}` is the signature.
    pub value: String,
    /// What is signed in place of the parameters: `{path}`, `{method}`, with a header also `{query}` and `{body}`, and what
    /// parameters may hold.
    pub text: Option<String>,
    /// What stands before the parameters; `{path}` is the path of the URL.
    pub before: String,
    /// What stands between a name and its value.
    pub pair: String,
    /// What stands between two parameters.
    pub join: String,
    /// The key; the client's secret where nothing is said.
    pub key: String,
    /// The hash function of the HMAC.
    pub hash: Hash,
    /// How the signature is written.
    pub encoding: Encoding,
}

impl Default for Sign {
    fn default() -> Self {
        Self {
            parameter: "sign".into(),
            header: None,
            value: "{signature}".into(),
            text: None,
            before: String::new(),
            pair: String::new(),
            join: String::new(),
            key: "{client_secret}".into(),
            hash: Hash::default(),
            encoding: Encoding::default(),
        }
    }
}

/// The hash function of a signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they are called so")]
pub enum Hash {
    Sha1,
    #[default]
    Sha256,
    Sha512,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Hexadecimal, in small letters.
    #[default]
    Hex,
    /// Hexadecimal, in capital letters.
    HexUpper,
    /// Base64 with padding.
    Base64,
    /// Base64 for URLs, without padding.
    Base64Url,
}

impl Call {
    /// This call with what it leaves open taken from `other`: a renewal is sent as a code is, unless said otherwise.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let mut headers = other.headers.clone();
        headers.extend(self.headers.clone());
        Self {
            method: self.method.or(other.method),
            format: self.format.or(other.format),
            secrets_in_query: self.secrets_in_query || (self.format.is_none() && other.secrets_in_query),
            client_auth: self.client_auth.or(other.client_auth),
            bearer: self.bearer,
            basic: self.basic.clone().or_else(|| other.basic.clone()),
            params: self.params.clone(),
            headers,
            sign: self.sign.clone().or_else(|| other.sign.clone()),
        }
    }
}
