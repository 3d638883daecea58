//! Signatures over the parameters of a request: an HMAC, as some providers want it beside the client's secret.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::provider::{Encoding, Hash, Sign};

/// The signature of `fields` under `key`; `before` is put in front of them.
pub(super) fn sign(how: &Sign, key: &str, before: &str, fields: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort();
    let pairs: Vec<_> = sorted.into_iter().map(|(name, value)| format!("{name}{}{value}", how.pair)).collect();
    let text = format!("{before}{}", pairs.join(&how.join));
    let algorithm = match how.hash {
        Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha512 => hmac::HMAC_SHA512,
    };
    let tag = hmac::sign(&hmac::Key::new(algorithm, key.as_bytes()), text.as_bytes());
    let hex = |upper: bool| -> String {
        tag.as_ref().iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    match how.encoding {
        Encoding::Hex => hex(false),
        Encoding::HexUpper => hex(true),
        Encoding::Base64 => STANDARD.encode(tag.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
