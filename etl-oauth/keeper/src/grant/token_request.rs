//! A request to one of the provider's endpoints, as its definition writes it.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::zeroize::Zeroizing;
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::{
    Certificate, Client,
    hmac::{signed_text, tag},
    template_vars::TemplateVars,
};
use crate::{
    provider::{CLIENT_ID, Call, ClientAuth, DEVICE_CODE, Format, Params, Provider, Sign, Verb, fill},
    token::Secret,
};

/// A request to one of the provider's endpoints.
#[derive(Clone)]
pub struct TokenRequest {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Zeroizing<String>,
    certificate: Option<Certificate>,
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequest").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// The parameters of a request, filled in.
pub(super) type Fields = Vec<(String, Value)>;

impl TokenRequest {
    /// A request of `fields`, with what the provider's definition says of it laid over.
    pub(super) fn new(url: &Url, call: &Call, provider: &Provider, client: &Client, fields: &[(&str, &str)]) -> Self {
        let bearer = fields.iter().find(|(name, _)| call.bearer && *name == "token").map(|(_, token)| *token);
        let auth = call.client_auth.unwrap_or(provider.client_auth);
        let proof = if call.bearer { Vec::new() } else { client.fields(auth) };
        let standard: Vec<(&str, &str)> = fields.iter().copied().chain(proof).collect();
        let vars = TemplateVars::new(provider, client, fields);
        let mut params = laid_over(&standard, &call.params, &vars);
        let method = method(call.method.unwrap_or_default());
        let device_code = fields.iter().find(|(name, _)| *name == "device_code").map_or("", |(_, code)| *code);
        let url = in_place(&with_client_id(url, &client.id), DEVICE_CODE, device_code);
        if let Some(how) = call.sign.as_ref().filter(|how| how.header.is_none()) {
            let signature = signature(how, &vars, &params, |name| known(name, &url, &method, ""));
            params.push((how.parameter.clone(), signature.into()));
        }
        let mut headers = filled(&call.headers, &vars);
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let authorization = match (bearer, &call.basic) {
            (Some(token), _) => Some(Secret::new(format!("Bearer {token}"))),
            (None, Some(pair)) => {
                let [user, password] = [&pair.user, &pair.password]
                    .map(|text| Zeroizing::new(fill(text, |name| vars.value(name)).unwrap_or_default()));
                let pair = Zeroizing::new(format!("{}:{}", *user, *password));
                Some(Secret::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
            }
            (None, None) if call.bearer => None,
            (None, None) => client.authorization(auth),
        };
        if !headers.contains_key(header::AUTHORIZATION) {
            headers.extend(authorization.as_ref().and_then(sensitive).map(|value| (header::AUTHORIZATION, value)));
        }
        let shown = (auth == ClientAuth::TlsClientAuth && !call.bearer) || provider.client_certificate;
        let certificate = client.certificate.clone().filter(|_| shown);
        let mut it = Self { method, url, headers, body: Zeroizing::default(), certificate };
        it.write(call.format, &params);
        if let Some((how, name)) = call.sign.as_ref().and_then(|how| Some((how, how.header.as_ref()?))) {
            let signature = signature(how, &vars, &params, |name| known(name, &it.url, &it.method, &it.body));
            let value = fill(&how.value, |name| if name == "signature" { Some(&signature) } else { vars.value(name) });
            let value = value.and_then(|value| sensitive(&Secret::new(value)));
            it.headers.extend(HeaderName::try_from(name).ok().zip(value));
        }
        it
    }

    /// A request to the API for an account, as the definition writes it, with the account's token on it; under `scheme`, where
    /// the token has one of its own.
    pub(super) fn of_account(
        url: &Url,
        call: &Call,
        provider: &Provider,
        client: &Client,
        (token, scheme): (&Secret, Option<&str>),
    ) -> Option<Self> {
        let vars = TemplateVars::new(provider, client, &[]);
        let mut headers = filled(&provider.api.headers, &vars);
        headers.extend(filled(&call.headers, &vars));
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let (before, after) = scheme.map_or_else(|| provider.api.around_token(), |scheme| (format!("{scheme} "), ""));
        let value = Secret::new(format!("{before}{}{after}", token.expose()));
        headers.insert(HeaderName::try_from(&provider.api.header).ok()?, sensitive(&value)?);
        let mut url = with_client_id(url, &client.id);
        for (name, text) in filled_texts(&provider.api.params, &vars) {
            url.query_pairs_mut().append_pair(&name, &text);
        }
        let method = method(call.method.unwrap_or(Verb::Get));
        let format = if method == Method::GET { Format::Query } else { call.format.unwrap_or(Format::Json) };
        let certificate = client.certificate.clone().filter(|_| provider.client_certificate);
        let mut it = Self { method, url, headers, body: Zeroizing::default(), certificate };
        it.write(Some(format), &laid_over(&[], &call.params, &vars));
        Some(it)
    }

    /// What is read without telling who asks: a server's metadata.
    #[must_use]
    pub fn get(url: Url) -> Self {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
        Self { method: Method::GET, url, headers, body: Zeroizing::default(), certificate: None }
    }

    /// What is posted as JSON without proof: a registration.
    pub(super) fn post_json(url: Url, body: &Value) -> Self {
        let mut it = Self::get(url);
        it.method = Method::POST;
        *it.body = body.to_string();
        it.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        it
    }

    /// The same request with a proof of possession (RFC 9449 §5), and the token that it is of (§7.1).
    #[must_use]
    pub fn with_proof(mut self, proof: HeaderValue, token: Option<&Secret>) -> Self {
        self.headers.insert(super::dpop::HEADER, proof);
        if let Some(shown) = token.and_then(|token| sensitive(&Secret::new(format!("DPoP {}", token.expose())))) {
            self.headers.insert(header::AUTHORIZATION, shown);
        }
        self
    }

    fn write(&mut self, format: Option<Format>, params: &Fields) {
        if params.is_empty() {
            // The URL and a header say it all.
            return;
        }
        let format = if self.method == Method::GET { Format::Query } else { format.unwrap_or_default() };
        let kind = match format {
            Format::Query => {
                self.url.query_pairs_mut().extend_pairs(texts(params));
                return;
            }
            Format::Json => {
                let object: serde_json::Map<_, _> = params.iter().cloned().collect();
                *self.body = Value::Object(object).to_string();
                "application/json"
            }
            Format::Form => {
                *self.body = form_urlencoded::Serializer::new(String::new()).extend_pairs(texts(params)).finish();
                "application/x-www-form-urlencoded"
            }
        };
        self.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
    }

    /// The HTTP method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Where it goes. For some providers its query holds secrets: it belongs into no log.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The headers; those with secrets are marked so that nothing prints them.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The form, or the JSON.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// What the connection shows of the client, where that is how it proves itself.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// The `Authorization` header.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.headers.get(header::AUTHORIZATION).cloned()
    }
}

/// Puts the client's id into its place, where the path or the query has one. It can be nothing but one segment or one value.
pub(super) fn with_client_id(url: &Url, id: &str) -> Url {
    in_place(url, CLIENT_ID, id)
}

/// Puts a value into its place in a path or a query. It can be nothing but one segment or one value.
fn in_place(url: &Url, place: &str, value: &str) -> Url {
    let mut url = url.clone();
    // A parser encodes the braces in a path, and leaves them in a query.
    let plain = place.replace("%7B", "{").replace("%7D", "}");
    let encoded = || form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>();
    if url.path().contains(place) {
        // A segment of dots would lead up.
        let segment = if matches!(value, "." | "..") { value.replace('.', "%252E") } else { encoded() };
        url.set_path(&url.path().replace(place, &segment));
    }
    if let Some(query) = url.query().filter(|query| query.contains(place) || query.contains(&plain)) {
        let filled = query.replace(place, &encoded()).replace(&plain, &encoded());
        url.set_query(Some(&filled));
    }
    url
}

fn method(verb: Verb) -> Method {
    match verb {
        Verb::Post => Method::POST,
        Verb::Get => Method::GET,
        Verb::Delete => Method::DELETE,
    }
}

/// What a signature can be made of beside the parameters.
fn known<'a>(name: &str, url: &'a Url, method: &'a Method, body: &'a str) -> Option<&'a str> {
    match name {
        "path" => Some(url.path()),
        "method" => Some(method.as_str()),
        "query" => Some(url.query().unwrap_or_default()),
        "body" => Some(body),
        _ => None,
    }
}

/// The signature over the parameters, or over the text that the definition writes.
fn signature<'a>(
    how: &Sign,
    vars: &'a TemplateVars<'_>,
    params: &Fields,
    known: impl Fn(&str) -> Option<&'a str>,
) -> String {
    let value = |name: &str| known(name).or_else(|| vars.value(name));
    let key = Zeroizing::new(fill(&how.key, value).unwrap_or_default());
    let text = match &how.text {
        Some(text) => fill(text, value).unwrap_or_default(),
        None => signed_text(how, &fill(&how.before, value).unwrap_or_default(), &texts(params)),
    };
    tag(how, &key, &Zeroizing::new(text))
}

/// Headers with their values filled in; one whose value is empty or cannot be filled in is left out.
pub(super) fn filled(headers: &BTreeMap<String, String>, vars: &TemplateVars<'_>) -> HeaderMap {
    let header =
        |(name, value): (String, String)| Some((HeaderName::try_from(name).ok()?, sensitive(&Secret::new(value))?));
    filled_texts(headers, vars).filter_map(header).collect()
}

/// Texts with their placeholders filled in; one that is empty or cannot be filled in is left out.
pub(super) fn filled_texts<'a>(
    texts: &'a BTreeMap<String, String>,
    vars: &'a TemplateVars<'_>,
) -> impl Iterator<Item = (String, String)> + 'a {
    texts.iter().filter_map(|(name, text)| {
        let value = fill(text, |name| vars.value(name)).filter(|value| !value.is_empty())?;
        Some((name.clone(), value))
    })
}

fn sensitive(value: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The standard parameters with a definition's laid over: one of the same name takes its place, and one that comes out
/// empty is left out. What cannot be filled in counts as empty.
pub(super) fn laid_over(standard: &[(&str, &str)], params: &Params, vars: &TemplateVars<'_>) -> Fields {
    let kept = standard.iter().filter(|(name, value)| !params.contains_key(*name) && !value.is_empty());
    let mut all: Fields = kept.map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    all.extend(params.iter().filter_map(|(name, param)| Some((name.clone(), param.filled(&|name| vars.value(name))?))));
    all
}

/// Parameters as a form has them: a list is one for each item.
pub(super) fn texts(params: &Fields) -> Vec<(String, String)> {
    let text = |value: &Value| crate::token::text(value);
    let of = |(name, value): &(String, Value)| match value {
        Value::Array(items) => items.iter().map(|item| (name.clone(), text(item))).collect(),
        value => vec![(name.clone(), text(value))],
    };
    params.iter().flat_map(of).collect()
}
