//! HTTP Message Signatures (RFC 9421) by the callers' private keys.

use aws_lc_rs::digest::SHA256;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use sfv::{Dictionary, InnerList, ListEntry, Parser};
use url::Url;

use super::{Call, Caller, Signed, SignedBody, keys, message};

/// How many signatures of a call are looked at.
const SIGNATURES: usize = 3;
/// How many components a signature may cover. RFC 9421's own examples cover eight at most.
const COMPONENTS: usize = 32;
/// The longest `Signature-Input` and `Signature` together, in bytes: reading them takes time, too.
const LONGEST: usize = 8 << 10;
/// How many times a key is tried for one call: each is some ten microseconds that a stranger can cause.
pub(super) const VERIFICATIONS: usize = 8;
/// Headers that begin so tell the function what to do. A signature covers those that are sent.
const OURS: &str = "x-etl-oauth-";

/// Judges by signatures no older than a tolerance.
#[derive(Debug)]
pub(super) struct Signatures {
    public_url: Url,
    tolerance: SignedDuration,
}

impl Signatures {
    pub(super) fn new(public_url: Url, tolerance: SignedDuration) -> Self {
        Self { public_url, tolerance }
    }

    /// Judges a call without its body: a signature that covers `content-digest` says which body is the right one.
    pub(super) fn judge(&self, keys: &[keys::Key], call: Call<'_>, now: Timestamp) -> Result<Signed, Caller> {
        let [inputs, signatures] = ["signature-input", "signature"].map(|name| message::combined(call.headers, name));
        let (inputs, signatures) = match (inputs, signatures) {
            (Some(inputs), Some(signatures)) => (inputs, signatures),
            (None, None) => return Err(Caller::Anonymous),
            _ => return Err(Caller::Wrong("Signature and Signature-Input are needed, both")),
        };
        if inputs.len() + signatures.len() > LONGEST {
            return Err(Caller::Wrong("Signature and Signature-Input are longer than 8 KiB"));
        }
        let dictionary = |text: &str| Parser::new(text).parse::<Dictionary>().ok();
        let (Some(inputs), Some(signatures)) = (dictionary(&inputs), dictionary(&signatures)) else {
            return Err(Caller::Wrong("Signature or Signature-Input is no dictionary (RFC 9651)"));
        };
        let mut why = Caller::Wrong("no Signature fits a Signature-Input");
        let mut left = VERIFICATIONS;
        for (label, input) in inputs.iter().take(SIGNATURES) {
            let (ListEntry::InnerList(input), Some(ListEntry::Item(signature))) = (input, signatures.get(label)) else {
                continue;
            };
            let Some(signature) = signature.bare_item.as_byte_sequence() else { continue };
            match self.verify(keys, call, input, signature, &mut left, now) {
                Ok(signed) => return Ok(signed),
                Err(wrong) => why = Caller::Wrong(wrong),
            }
        }
        Err(why)
    }

    fn verify(
        &self,
        keys: &[keys::Key],
        call: Call<'_>,
        input: &InnerList,
        signature: &[u8],
        left: &mut usize,
        now: Timestamp,
    ) -> Result<Signed, &'static str> {
        let param = |name: &str| input.params.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value);
        let text = |name: &str| param(name).map(|value| value.as_string().map(sfv::StringRef::as_str));
        let time = |name: &str| param(name).map(|value| Timestamp::from_second(i64::from(value.as_integer()?)).ok());
        let (Some(key_id), Some(algorithm), Some(nonce)) =
            (known(text("keyid")), known(text("alg")), known(text("nonce")))
        else {
            return Err("a parameter of the signature is no string");
        };
        covers_the_call(input, call)?;
        let Some(Some(created)) = time("created") else { return Err("the signature does not say when it was created") };
        if now.duration_since(created).abs() > self.tolerance {
            return Err("the signature was created too long ago, or in the future");
        }
        let expires = match time("expires") {
            None => Timestamp::MAX,
            Some(Some(at)) if at > now => at,
            Some(_) => return Err("the signature has expired"),
        };
        let mut fits = |base: &String| {
            let mut keys = keys.iter().filter(|key| key.is(key_id));
            keys.find(|key| key.verifies(algorithm, base.as_bytes(), signature, left)).map(|key| key.caller().clone())
        };
        let bases = self.addresses(call);
        let mut bases = bases.iter().filter_map(|url| message::base(call, url, input));
        let fitting = bases.find_map(|base| fits(&base).map(|caller| (base, caller)));
        let Some((base, caller)) = fitting else {
            return Err("the signature does not fit the call, or its key is not known");
        };
        // What was signed tells one call from another. The signature does not: of one, others can be made that fit as well.
        let name = match nonce {
            Some(nonce) => format!("nonce {} {nonce}", key_id.unwrap_or_default()),
            None => format!("signed {}", URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&SHA256, base.as_bytes()))),
        };
        let until = created.checked_add(self.tolerance).unwrap_or(Timestamp::MAX).min(expires);
        let body = if covers(input, "content-digest") { SignedBody::Digest } else { SignedBody::Empty };
        Ok(Signed { name, until, body, caller })
    }

    /// The addresses that the caller may have used: the gateway takes the function's own path off, and the slash behind it.
    fn addresses(&self, call: Call<'_>) -> Vec<Url> {
        let own = self.public_url.path().trim_end_matches('/');
        let path = call.uri.path();
        let mut paths = vec![format!("{own}{path}")];
        if path == "/" && !own.is_empty() {
            paths.push(own.to_owned());
        }
        let with = |path: String| {
            let mut url = self.public_url.clone();
            url.set_path(&path);
            url
        };
        paths.into_iter().map(with).collect()
    }
}

fn covers(input: &InnerList, name: &str) -> bool {
    input.items.iter().any(|item| item.bare_item.as_string().is_some_and(|covered| covered.as_str() == name))
}

/// Whether the signature covers all that decides what the call does: method, host, path, query, and the headers that name
/// an account or a connection. What it leaves out can be changed by any party that sees the call.
fn covers_the_call(input: &InnerList, call: Call<'_>) -> Result<(), &'static str> {
    if input.items.len() > COMPONENTS {
        return Err("the signature covers more than 32 components");
    }
    let covers_one = |names: &[&str]| names.iter().any(|name| covers(input, name));
    if !covers(input, "@method") || !covers_one(&["@path", "@target-uri", "@request-target"]) {
        return Err("the signature must cover @method, and @path or @target-uri");
    }
    if !covers_one(&["@authority", "@target-uri"]) {
        return Err("the signature must cover @authority or @target-uri");
    }
    if call.uri.query().is_some() && !covers_one(&["@query", "@target-uri", "@request-target"]) {
        return Err("the signature of a call with a query must cover @query or @target-uri");
    }
    if call.headers.keys().any(|name| name.as_str().starts_with(OURS) && !covers(input, name.as_str())) {
        return Err("the signature must cover every header X-Etl-Oauth-… that the call sends");
    }
    Ok(())
}

/// A parameter that may be missing, but must not be of another type.
fn known(parameter: Option<Option<&str>>) -> Option<Option<&str>> {
    match parameter {
        None => Some(None),
        Some(None) => None,
        Some(some) => Some(some),
    }
}
