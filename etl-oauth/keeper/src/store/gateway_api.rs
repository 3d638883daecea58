use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use url::Url;

use super::StoreError;
use crate::{secrets::Secrets, token::Secret};

/// How often a write that raced with another one is sent again.
const TRIES: u32 = 4;

/// The gateway's `/system/secrets`, in both dialects: faas-netes knows PUT for what is there and POST for what is not and
/// answers 202, faasd takes either and answers 200.
#[derive(Clone, Debug)]
pub struct GatewayApi {
    http: reqwest::Client,
    url: Url,
    secrets: Secrets,
}

#[derive(Serialize)]
struct Body<'a> {
    name: &'a str,
    value: &'a str,
}

impl GatewayApi {
    /// The API at `gateway`, with Basic authentication from the secrets `basic-auth-user` (`admin` where that is not
    /// mounted) and `basic-auth-password`.
    ///
    /// # Errors
    /// When the TLS library does not start.
    pub fn new(gateway: &Url, secrets: Secrets) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .connect_timeout(Duration::from_secs(3))
            // A redirect would turn a PUT into a GET, and carry the password to another host.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("etl-oauth/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let mut url = gateway.clone();
        url.set_path(&format!("{}/system/secrets", gateway.path().trim_end_matches('/')));
        Ok(Self { http, url, secrets })
    }

    /// Sets a secret to `value`, whether or not it is there.
    ///
    /// # Errors
    /// When the gateway cannot be reached, or does not take it.
    pub async fn put(&self, name: &str, value: &Secret) -> Result<(), StoreError> {
        let mut method = Method::PUT;
        for _ in 0..TRIES {
            match self.send(method.clone(), name, value).await? {
                status if status.is_success() => return Ok(()),
                StatusCode::NOT_FOUND if method == Method::PUT => method = Method::POST,
                // POST: it is there after all. PUT: somebody else wrote at the same moment, so write again.
                StatusCode::CONFLICT => method = Method::PUT,
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    let password = self.secrets.name("basic-auth-password");
                    return Err(StoreError::refused(format!(
                        "the gateway answered {} to a write of the secret {name}: check the secret {password}",
                        status.as_u16()
                    )));
                }
                status => {
                    return Err(StoreError::unavailable(format!(
                        "the gateway answered {} to a write of the secret {name}",
                        status.as_u16()
                    )));
                }
            }
        }
        Err(StoreError::unavailable(format!("the gateway kept changing its mind about the secret {name}")))
    }

    async fn send(&self, method: Method, name: &str, value: &Secret) -> Result<StatusCode, StoreError> {
        // Read for every write: a rotated password must not need a restart.
        let password = self
            .secrets
            .require("basic-auth-password")
            .map_err(|err| StoreError::refused(err.to_string()).because(err))?;
        let user = self.secrets.read("basic-auth-user").ok().flatten();
        let user = user.as_ref().map(Secret::expose).filter(|user| !user.is_empty()).unwrap_or("admin");
        let response = self
            .http
            .request(method, self.url.clone())
            .basic_auth(user, Some(password.expose()))
            .json(&Body { name, value: value.expose() })
            .send()
            .await
            .map_err(|err| StoreError::unavailable(unreachable(&self.url, &err)).because(err.without_url()))?;
        Ok(response.status())
    }
}

fn unreachable(url: &Url, err: &reqwest::Error) -> String {
    let what = if err.is_timeout() { "does not answer in time" } else { "cannot be reached" };
    format!("the gateway at {} {what}; check the variable gateway_url", url.origin().ascii_serialization())
}
