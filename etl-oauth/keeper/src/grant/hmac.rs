//! Signatures over the parameters of a request: an HMAC, as some providers want it beside the client's secret.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use secrecy::zeroize::Zeroizing;
use url::form_urlencoded;

use super::{Client, template_vars::TemplateVars};
use crate::provider::{Encoding, Hash, Provider, Sign, fill};

/// Whether the query that brings a person back is signed as the provider signs it. Names and values count encoded as in a
/// form, whatever their encoding on the way: what is decoded could be put together in more than one way.
#[must_use]
pub fn is_signed(provider: &Provider, client: &Client, query: &str) -> bool {
    let Some(how) = &provider.callback.sign else { return true };
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let (theirs, fields): (Vec<_>, Vec<_>) =
        form_urlencoded::parse(query.as_bytes()).partition(|(name, _)| *name == how.parameter);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (encoded(name), encoded(value))).collect();
    let blanks = TemplateVars::new(provider, client, &[]);
    let ([(_, theirs)], Some(key)) = (&theirs[..], fill(&how.key, |name| blanks.value(name))) else { return false };
    let ours = tag(how, &Zeroizing::new(key), &signed_text(how, &how.before, &fields));
    verify_slices_are_equal(ours.as_bytes(), theirs.as_bytes()).is_ok()
}

/// The text of `fields` that is signed; `before` is put in front of them.
pub(super) fn signed_text(how: &Sign, before: &str, fields: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort();
    let pairs: Vec<_> = sorted.into_iter().map(|(name, value)| format!("{name}{}{value}", how.pair)).collect();
    format!("{before}{}", pairs.join(&how.join))
}

/// The signature of a text under `key`.
pub(super) fn tag(how: &Sign, key: &str, text: &str) -> String {
    let algorithm = match how.hash {
        Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha512 => hmac::HMAC_SHA512,
    };
    let tag = hmac::sign(&hmac::Key::new(algorithm, key.as_bytes()), text.as_bytes());
    match how.encoding {
        Encoding::Hex => hex::encode(tag),
        Encoding::HexUpper => hex::encode_upper(tag),
        Encoding::Base64 => STANDARD.encode(tag.as_ref()),
        Encoding::Base64Url => URL_SAFE_NO_PAD.encode(tag.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(how: &Sign, key: &str, before: &str, fields: &[(String, String)]) -> String {
        tag(how, key, &signed_text(how, before, fields))
    }

    #[test]
    fn the_parameters_are_signed_in_the_order_of_their_names() {
        let fields = [("b", "2"), ("a", "1"), ("ab", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let how = Sign { pair: "=".into(), join: "&".into(), ..Sign::default() };
        // echo -n '/p?a=1&ab=3&b=2' | openssl dgst -sha256 -hmac key
        let hex = "4fbb5b0b616d79996eb588da761a7c625fe333a42ea56f812ede6a99339ae81f";
        assert_eq!(sign(&how, "key", "/p?", &fields), hex);
        let upper = Sign { encoding: Encoding::HexUpper, ..how.clone() };
        assert_eq!(sign(&upper, "key", "/p?", &fields), hex.to_uppercase());
        let base64 = Sign { encoding: Encoding::Base64, hash: Hash::Sha1, ..how.clone() };
        assert_eq!(sign(&base64, "key", "/p?", &fields), "BGfCaoCJfLsofDY/L9xOpwxEepI=");
        let sha512 = Sign { hash: Hash::Sha512, ..how };
        assert!(sign(&sha512, "key", "/p?", &fields).starts_with("d8cd3080fe2e510a"));
    }
}
