//! Who may call the job, by the variable `invoke_auth`.

mod cached_secret;
mod claims;
mod digest;
mod hmac;
mod jwt;
mod keys;
mod message;
mod secret;
mod signature;

use std::time::Duration;

use http::{HeaderMap, Method, Uri, header};
use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::{Once, Throttle};
use cached_secret::Kept;
use hmac::Hmac;
use jwt::Jwt;
use signature::Signatures;
use token_keeper::secrets::Secrets;

/// What callers prove themselves with is in this secret: words, keys of webhooks, or public keys.
const SECRET: &str = "etl-oauth-invoke";
/// How many calls are remembered at a time, so that none is played again.
const CALLS: usize = 100_000;

/// How callers prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvokeAuth {
    /// Not at all.
    None,
    /// A word, as bearer or in `X-Api-Key`.
    Secret,
    /// A signature of id, time and body by a shared key (Standard Webhooks), no older than this.
    Hmac(Duration),
    /// A JSON web token of an issuer.
    Jwt(JwtRules),
    /// The token that the gateway's IAM gives for this function.
    OpenFaas(IamRules),
    /// A signature of the message by a private key (RFC 9421), no older than this.
    PublicKey(Duration),
}

/// Which JSON web tokens are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtRules {
    /// Who issued it: `iss`, exactly.
    pub issuer: String,
    /// For whom: one of `aud`.
    pub audience: String,
    /// Where the issuer's keys are; without it the issuer's metadata tell.
    pub jwks_url: Option<Url>,
    /// By how much clocks may differ.
    pub leeway: Duration,
}

/// Which tokens of the gateway's IAM are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IamRules {
    /// The gateway, whose metadata name issuer and keys.
    pub gateway_url: Url,
    /// `namespace:function`, as permissions name it.
    pub function: String,
    /// By how much clocks may differ.
    pub leeway: Duration,
}

/// What a request's credentials amount to as a caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No credentials.
    Anonymous,
    /// Wrong ones, for this reason.
    Wrong(&'static str),
    /// Known, and may not call this function.
    Forbidden,
    /// Credentials that were not looked at, since there were too many wrong ones: again after so many seconds.
    Throttled(u64),
    /// Credentials that could not be looked at, since the issuer's keys could not be had.
    Unavailable,
    /// A caller who proved who he is.
    Proved,
}

/// A call, as far as it can be signed.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its address below the function.
    pub uri: &'a Uri,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
}

/// What a call was judged to be.
#[derive(Clone, Debug)]
pub struct Judged {
    /// As whom it comes.
    pub caller: Caller,
    /// How much later to answer, where it is wrong.
    pub pause: Duration,
    /// The name under which it is remembered, where it may come only once.
    pub once: Option<String>,
}

/// Judges callers.
#[derive(Debug)]
pub struct Callers {
    kind: Kind,
    kept: Kept,
    throttle: Throttle,
    seen: Once,
}

#[derive(Debug)]
enum Kind {
    Anyone,
    Secret,
    Hmac(Hmac),
    Jwt(Box<Jwt>),
    PublicKey(Signatures),
}

impl Callers {
    /// Callers by the rules of `auth`, of a function at `public_url`.
    ///
    /// # Errors
    /// When the TLS library does not start.
    pub fn new(auth: &InvokeAuth, secrets: Secrets, public_url: &Url) -> Result<Self, reqwest::Error> {
        let kind = match auth {
            InvokeAuth::None => Kind::Anyone,
            InvokeAuth::Secret => Kind::Secret,
            InvokeAuth::Hmac(tolerance) => Kind::Hmac(Hmac::new(signed(*tolerance))),
            InvokeAuth::Jwt(rules) => Kind::Jwt(Box::new(Jwt::of_issuer(rules)?)),
            InvokeAuth::OpenFaas(rules) => Kind::Jwt(Box::new(Jwt::of_gateway(rules)?)),
            InvokeAuth::PublicKey(tolerance) => {
                Kind::PublicKey(Signatures::new(public_url.clone(), signed(*tolerance)))
            }
        };
        Ok(Self { kind, kept: Kept::new(secrets, SECRET), throttle: Throttle::default(), seen: Once::new(CALLS) })
    }

    /// Whether anybody is asked for anything.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !matches!(self.kind, Kind::Anyone)
    }

    /// Whether a call's body is signed, too, and so must be read before the call is judged.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        matches!(self.kind, Kind::Hmac(_) | Kind::PublicKey(_))
    }

    /// Judges a call. One that may come only once is remembered by that.
    pub async fn judge(&self, call: Call<'_>, now: Timestamp) -> Judged {
        let kept = || self.kept.get(now).map_err(|_| Caller::Unavailable);
        let mut pause = Duration::ZERO;
        let result = match &self.kind {
            Kind::Anyone => Err(Caller::Anonymous),
            Kind::Secret => kept().and_then(|kept| {
                let (caller, later) = secret::judge(&kept, &self.throttle, call.headers, now);
                pause = later;
                if caller == Caller::Proved { Ok(None) } else { Err(caller) }
            }),
            Kind::Hmac(hmac) => kept().and_then(|kept| hmac.judge(&kept, call, now)).map(Some),
            Kind::PublicKey(signatures) => kept().and_then(|kept| signatures.judge(&kept, call, now)).map(Some),
            Kind::Jwt(jwt) => jwt.judge(call.headers, now).await.map(|()| None),
        };
        let (caller, once) = match result {
            Err(caller) => (caller, None),
            Ok(None) => (Caller::Proved, None),
            Ok(Some(Signed { name, until })) if self.seen.consume(&name, until, now) => (Caller::Proved, Some(name)),
            Ok(Some(_)) => (Caller::Wrong("this call was made before"), None),
        };
        Judged { caller, pause, once }
    }

    /// Lets a call that was judged good come once more: what it asked for was not done.
    pub fn release(&self, name: &str) {
        self.seen.release(name);
    }
}

/// A call whose signature is good.
#[derive(Debug)]
struct Signed {
    /// What tells it from all others.
    name: String,
    /// Until when its signature is good.
    until: Timestamp,
}

impl InvokeAuth {
    /// What is wrong with the secret that these rules need; nothing where it is right.
    #[must_use]
    pub fn mistake(&self, secrets: &Secrets) -> Option<String> {
        let name = secrets.name(SECRET);
        let read = || secrets.require(SECRET).map_err(|err| err.to_string());
        let checked = match self {
            Self::None | Self::Jwt(_) | Self::OpenFaas(_) => Ok(()),
            Self::Secret => read().map(|_| ()),
            Self::Hmac(_) => read().and_then(|kept| {
                hmac::keys(&kept).map(|_| ()).ok_or(format!(
                    "secret {name} holds no key of a webhook: a line each, `whsec_` and 24 to 64 bytes in base64"
                ))
            }),
            Self::PublicKey(_) => read().and_then(|kept| {
                keys::read(kept.expose()).map(|_| ()).ok_or(format!(
                    "secret {name} holds no public key: PEM blocks `PUBLIC KEY` of Ed25519, RSA (2048 bits or more) or P-256"
                ))
            }),
        };
        checked.err().map(|why| format!("{why} (invoke_auth needs it)"))
    }
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The one value of a header; `None` also where there are several.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
