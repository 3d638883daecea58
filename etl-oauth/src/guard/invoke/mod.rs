//! Authentication of callers, by the variable `invoke_auth`.

mod cached_secret;
mod claims;
mod digest;
mod hmac;
mod identity;
mod jwt;
mod keys;
mod message;
mod secret;
mod signature;

use std::time::Duration;

pub use digest::fits as digest_fits;
use http::{HeaderMap, Method, Uri, header};
pub use identity::{Identity, Rights};
use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::{ReplayCache, Throttle, replay_cache::Use};
use cached_secret::CachedSecret;
use hmac::Hmac;
use jwt::Jwt;
use signature::Signatures;
use token_keeper::secrets::Secrets;

/// What callers prove themselves with is in this secret: words, keys of webhooks, or public keys.
const SECRET: &str = "etl-oauth-invoke";
/// How many calls are remembered at a time, so that none is played again.
const CALLS: usize = 100_000;

/// The way in which callers authenticate.
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
    /// The issuer: `iss`, exactly.
    pub issuer: String,
    /// The audience: one of `aud`.
    pub audience: String,
    /// Where the issuer's keys are; without it the issuer's metadata tell.
    pub jwks_url: Option<Url>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// The claim that holds the accounts a caller may use.
    pub claim: String,
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
    /// The claim that holds the accounts a caller may use.
    pub claim: String,
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
    /// Credentials that could not be looked at: the issuer's keys or the secret could not be read, or no more calls can be
    /// remembered.
    Unavailable,
    /// A signed call that was made before. Whether that one has been done, or is under way.
    Duplicate(Progress),
    /// Authenticated.
    Proved,
}

/// How far the first of two equal signed calls has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has been done: the second one asks for nothing more.
    Done,
    /// It is under way, or was not the job's: whether it will succeed is open.
    UnderWay,
}

/// What a signature says of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedBody {
    /// Nothing is signed.
    Unsigned,
    /// It was signed with the rest, and checked.
    Whole,
    /// `Content-Digest` is signed: the body must be the one that it names ([`digest_fits`]).
    Digest,
    /// The signature covers no body: there must be none.
    Empty,
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
    /// Its body, where [`Callers::needs_body`] wants it.
    pub body: &'a [u8],
}

/// What a call was judged to be.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The outcome.
    pub caller: Caller,
    /// How much later to answer, where it is wrong.
    pub pause: Duration,
    /// The name under which it is remembered, where it may come only once.
    pub once: Option<String>,
    /// What is left to be checked of its body.
    pub body: SignedBody,
    /// Who it is, where it is proved.
    pub identity: Identity,
}

/// Judges callers.
#[derive(Debug)]
pub struct Callers {
    kind: Kind,
    throttle: Throttle,
    seen: ReplayCache,
}

#[derive(Debug)]
enum Kind {
    Anyone,
    Secret(CachedSecret<secret::Words>),
    Hmac(CachedSecret<Vec<(aws_lc_rs::hmac::Key, Identity)>>, Hmac),
    Jwt(Box<Jwt>),
    PublicKey(CachedSecret<Vec<keys::Key>>, Signatures),
}

impl Callers {
    /// Callers by the rules of `auth`, of a function at `public_url`.
    ///
    /// # Errors
    /// When the TLS library does not start.
    pub fn new(auth: &InvokeAuth, secrets: Secrets, public_url: &Url) -> Result<Self, reqwest::Error> {
        let kind = match auth {
            InvokeAuth::None => Kind::Anyone,
            InvokeAuth::Secret => Kind::Secret(CachedSecret::new(secrets, SECRET, secret::words)),
            InvokeAuth::Hmac(tolerance) => {
                Kind::Hmac(CachedSecret::new(secrets, SECRET, hmac::keys), Hmac::new(signed(*tolerance)))
            }
            InvokeAuth::Jwt(rules) => Kind::Jwt(Box::new(Jwt::of_issuer(rules)?)),
            InvokeAuth::OpenFaas(rules) => Kind::Jwt(Box::new(Jwt::of_gateway(rules)?)),
            InvokeAuth::PublicKey(tolerance) => Kind::PublicKey(
                CachedSecret::new(secrets, SECRET, keys::read),
                Signatures::new(public_url.clone(), signed(*tolerance)),
            ),
        };
        Ok(Self { kind, throttle: Throttle::default(), seen: ReplayCache::new(CALLS) })
    }

    /// Whether callers have to prove anything.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !matches!(self.kind, Kind::Anyone)
    }

    /// The longest body that must be read before a call with these headers can be judged; `None` where the headers decide.
    #[must_use]
    pub fn needs_body(&self, headers: &HeaderMap, now: Timestamp) -> Option<usize> {
        match &self.kind {
            Kind::Hmac(_, hmac) => hmac.needs_body(headers, now).then_some(hmac::BODY_LIMIT),
            _ => None,
        }
    }

    /// Whether a call's signature covers its body.
    #[must_use]
    pub fn signs_body(&self) -> bool {
        matches!(self.kind, Kind::Hmac(..) | Kind::PublicKey(..))
    }

    /// Judges a call. One that may come only once is remembered by that.
    pub async fn judge(&self, call: Call<'_>, now: Timestamp) -> Judged {
        let mut pause = Duration::ZERO;
        let result = match &self.kind {
            Kind::Anyone => Err(Caller::Anonymous),
            Kind::Secret(words) => words.get(now).and_then(|words| {
                let (caller, later, identity) = secret::judge(&words, &self.throttle, call.headers, now);
                pause = later;
                if caller == Caller::Proved { Ok((None, identity)) } else { Err(caller) }
            }),
            Kind::Hmac(keys, hmac) => keys.get(now).and_then(|keys| hmac.judge(&keys, call, now)).map(once),
            Kind::PublicKey(keys, signatures) => {
                keys.get(now).and_then(|keys| signatures.judge(&keys, call, now)).map(once)
            }
            Kind::Jwt(jwt) => jwt.judge(call.headers, now).await.map(|identity| (None, identity)),
        };
        let (result, identity) = match result {
            Ok((once, identity)) => (Ok(once), identity),
            Err(caller) => (Err(caller), Identity::default()),
        };
        let (caller, once, body) = match result {
            Err(caller) => (caller, None, SignedBody::Unsigned),
            Ok(None) => (Caller::Proved, None, SignedBody::Unsigned),
            Ok(Some(Once { name, until, body })) => match self.seen.consume(&name, until, now) {
                Use::First => (Caller::Proved, Some(name), body),
                Use::Again { done: true } => (Caller::Duplicate(Progress::Done), None, body),
                Use::Again { done: false } => (Caller::Duplicate(Progress::UnderWay), None, body),
                Use::NoRoom => (Caller::Unavailable, None, body),
            },
        };
        Judged { caller, pause, once, body, identity }
    }

    /// What a call that was judged good asked for is done: [`Progress::Done`] from now on.
    pub fn done(&self, name: &str) {
        self.seen.done(name);
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
    /// What it says of the body.
    body: SignedBody,
    /// Who signed it.
    caller: Identity,
}

/// What tells a signed call from others.
struct Once {
    name: String,
    until: Timestamp,
    body: SignedBody,
}

fn once(signed: Signed) -> (Option<Once>, Identity) {
    let Signed { name, until, body, caller } = signed;
    (Some(Once { name, until, body }), caller)
}

impl InvokeAuth {
    /// What is wrong with the secret that these rules need; nothing where it is right.
    #[must_use]
    pub fn mistake(&self, secrets: &Secrets) -> Option<String> {
        let name = secrets.name(SECRET);
        let read = || secrets.require(SECRET).map_err(|err| err.to_string());
        let checked = match self {
            Self::None | Self::Jwt(_) | Self::OpenFaas(_) => Ok(()),
            Self::Secret => read().and_then(|secret| {
                secret::words(&secret).map(|_| ()).ok_or(format!(
                    "secret {name} has a line that cannot be read: a line is the key, then name=… and allow=google/*,slack/ada"
                ))
            }),
            Self::Hmac(_) => read().and_then(|secret| {
                hmac::keys(&secret).map(|_| ()).ok_or(format!(
                    "secret {name} holds no keys of webhooks: one to eight lines, each `whsec_` and 24 to 64 bytes in base64"
                ))
            }),
            Self::PublicKey(_) => read().and_then(|secret| {
                keys::read(&secret).map(|_| ()).ok_or(format!(
                    "secret {name} holds no public key, or more than two without a key id in the line above: PEM blocks \
                     `PUBLIC KEY` of Ed25519, RSA (2048 bits or more) or P-256"
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
