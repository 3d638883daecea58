//! A double of a provider: it answers each request as the definition says that the provider does, in this process, and keeps
//! what it was asked.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use url::Url;

use token_keeper::{
    grant::{Client, HttpClient, HttpResponse, TokenRequest},
    provider::{Provider, Source, Values},
    token::{Mark, Secret, Unit},
};

/// How long the double's tokens live, in seconds.
const LIFETIME: i64 = 3600;

/// What the double was asked: the endpoint, and the request.
pub(super) type Asked = Arc<Mutex<Vec<(&'static str, TokenRequest)>>>;

/// The provider as it answers.
#[derive(Clone)]
pub(super) struct Double {
    provider: Arc<Provider>,
    asked: Asked,
}

/// The client that asks: nothing of it is a secret.
pub(super) fn client(provider: &Provider) -> Client {
    let named = provider.variables.iter().filter(|(_, variable)| variable.from == Source::Secret);
    Client {
        id: "CLIENT-ID".into(),
        secret: Some(Secret::new("CLIENT-SECRET")),
        assertion: Some(Secret::new("SIGNED-STATEMENT")),
        secrets: named.map(|(name, _)| (name.clone(), Secret::new(format!("SECRET-{name}")))).collect(),
        ..Client::default()
    }
}

impl Double {
    pub(super) fn new(provider: Provider) -> Self {
        Self { provider: Arc::new(provider), asked: Asked::default() }
    }

    /// The way to it.
    pub(super) fn wire(&self) -> HttpClient {
        let double = self.clone();
        HttpClient::new(move |request: TokenRequest| {
            let answer = double.answer(request);
            async move { Ok(answer) }
        })
    }

    /// What it was asked since the last time.
    pub(super) fn take(&self) -> Vec<(&'static str, TokenRequest)> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answer(&self, request: TokenRequest) -> HttpResponse {
        let endpoint = self.endpoint(request.url());
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((endpoint, request));
        let mut headers = HeaderMap::new();
        let body = match endpoint {
            "token" | "refresh" | "second" | "poll" => self.tokens(&mut headers),
            "device" => self.codes(),
            "userinfo" | "lookup" => self.account(),
            "introspect" => json!({ "active": true, "exp": Timestamp::now().as_second() + LIFETIME }),
            _ => json!({}),
        };
        let mut body = self.successful(body);
        if let Some(object) = body.as_object_mut()
            && object.is_empty()
        {
            body = Value::Null;
        }
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        HttpResponse { status: StatusCode::OK, headers, body, at: Timestamp::now() }
    }

    /// Which endpoint is at this address. Values of an account may have moved it.
    fn endpoint(&self, url: &Url) -> &'static str {
        let provider = self.provider.with(&kept(&self.provider));
        let endpoints = [
            ("poll", provider.device_poll_url.as_ref()),
            ("device", provider.device_url.as_ref()),
            ("token", Some(&provider.token_url)),
            ("refresh", Some(&provider.refresh_url)),
            ("second", provider.second_url.as_ref()),
            ("introspect", provider.introspect_url.as_ref()),
            ("lookup", provider.lookup_url.as_ref()),
            ("userinfo", provider.userinfo_url.as_ref()),
            ("revoke", provider.revoke_url.as_ref()),
        ];
        let there = |known: &Url| {
            let filled =
                known.path().replace("%7Bclient_id%7D", "CLIENT-ID").replace("%7Bdevice_code%7D", "DEVICE-CODE");
            known.origin() == url.origin() && filled == url.path()
        };
        endpoints.into_iter().find(|(_, known)| known.is_some_and(there)).map_or("other", |(name, _)| name)
    }

    /// A token answer in the provider's own shape.
    fn tokens(&self, headers: &mut HeaderMap) -> Value {
        let shape = &self.provider.answer;
        let mut body = json!({});
        let life = match shape.unit {
            Unit::Milliseconds => LIFETIME * 1000,
            Unit::Minutes => LIFETIME / 60,
            _ => LIFETIME,
        };
        let renewed = !self.provider.grant.asks_again() && shape.refresh_token.first() != shape.access_token.first();
        let fields = [
            (&shape.access_token, Some(json!("ACCESS-TOKEN"))),
            (&shape.refresh_token, renewed.then(|| json!("REFRESH-TOKEN"))),
            (&shape.expires_in, Some(life.into())),
        ];
        for (paths, value) in fields {
            let Some((path, value)) = paths.first().zip(value) else { continue };
            if let Some(name) = path.strip_prefix("header:") {
                let value = HeaderValue::try_from(value.as_str().unwrap_or("3600")).ok();
                headers.extend(HeaderName::try_from(name).ok().zip(value));
            } else if let Some(name) = path.strip_prefix("cookie:") {
                let value = format!("{name}={}; Path=/", value.as_str().unwrap_or_default());
                headers.extend(HeaderValue::try_from(value).ok().map(|value| (http::header::SET_COOKIE, value)));
            } else if path == "body:" {
                return value;
            } else {
                put(&mut body, path, value);
            }
        }
        for (name, variable) in self.provider.variables.iter().filter(|(_, it)| it.from == Source::Answer) {
            put(&mut body, variable.at(name), variable.sample().into());
        }
        body
    }

    fn codes(&self) -> Value {
        let shape = &self.provider.device;
        let page = shape.page.clone().unwrap_or_else(|| "https://provider.example/device".into());
        let life = if shape.unit == Unit::Minutes { 15 } else { 900 };
        let mut body = json!({});
        for (paths, value) in [
            (&shape.device_code, json!("DEVICE-CODE")),
            (&shape.user_code, json!("USER-CODE")),
            (&shape.verification_uri, json!(page)),
            (&shape.expires_in, json!(life)),
            (&shape.interval, json!(1)),
        ] {
            paths.first().into_iter().for_each(|path| put(&mut body, path, value.clone()));
        }
        body
    }

    /// Who the account is, and what is looked up of it: one entry.
    fn account(&self) -> Value {
        let (provider, terms) = (&self.provider, &self.provider.lookup);
        let mut entry = json!({});
        for (name, variable) in provider.variables.iter().filter(|(_, it)| it.from == Source::Lookup) {
            put(&mut entry, variable.at(name), variable.sample().into());
        }
        terms.only.iter().chain(&terms.prefer).for_each(|mark| bear(&mut entry, mark));
        let mut body = json!({});
        if terms.list.is_empty() {
            body = entry;
        } else {
            put(&mut body, &terms.list, json!([entry]));
        }
        for (pointer, value) in [(&provider.userinfo_id, "ACCOUNT-ID"), (&provider.userinfo_name, "A name")] {
            pointer.iter().for_each(|pointer| put(&mut body, pointer, value.into()));
        }
        body
    }

    /// The answer with the sign of a success, where the provider has one of its own.
    fn successful(&self, mut body: Value) -> Value {
        if body.is_object() {
            self.provider.answer.success.iter().for_each(|mark| bear(&mut body, mark));
        }
        body
    }
}

/// What the redirect brings, and what the answers do.
pub(super) fn kept(provider: &Provider) -> Values {
    let sources = [Source::Redirect, Source::Answer, Source::Lookup];
    sources.into_iter().flat_map(|source| provider.samples(source)).collect()
}

/// Makes an object bear a sign.
fn bear(body: &mut Value, mark: &Mark) {
    let Some(word) = mark.is.first().or(mark.has.first()).filter(|_| !mark.at.is_empty()) else { return };
    let value = match word.as_str() {
        "true" => true.into(),
        "false" => false.into(),
        word => word.parse::<i64>().ok().filter(|number| number.to_string() == word).map_or(word.into(), Value::from),
    };
    put(body, &mark.at, value);
}

/// Puts a value at a JSON pointer, or at a path with dots.
fn put(body: &mut Value, path: &str, value: Value) {
    let (pointer, separator) = path.strip_prefix('/').map_or((path, '.'), |pointer| (pointer, '/'));
    let mut place = body;
    for name in pointer.split(separator) {
        let name = if separator == '/' { name.replace("~1", "/").replace("~0", "~") } else { name.to_owned() };
        place = match name.parse::<usize>() {
            Ok(at) if place.as_object().is_none_or(Map::is_empty) => {
                if !place.is_array() {
                    *place = json!([]);
                }
                let Value::Array(items) = place else { return };
                items.resize(items.len().max(at + 1), Value::Null);
                &mut items[at]
            }
            _ => {
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                let Value::Object(fields) = place else { return };
                fields.entry(name).or_insert(Value::Null)
            }
        };
    }
    *place = value;
}
