//! The client's certificate (RFC 8705).

use std::fmt;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use reqwest::Identity;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::token::Secret;

/// A client's certificate with its key, to be shown on the connection (RFC 8705 §2).
#[derive(Clone)]
pub struct Certificate {
    identity: Identity,
    digest: String,
}

/// Why a text is no certificate. Shows nothing of it; completes a sentence that begins with a secret's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// No PEM of a certificate.
    #[error(
        "is no certificate: it must be PEM (-----BEGIN CERTIFICATE-----), the client's own first, then its issuers'"
    )]
    NotACertificate,
    /// No PEM of a key, or that of another certificate.
    #[error("does not belong to the private key beside it, which must be PEM (-----BEGIN PRIVATE KEY-----)")]
    OtherKey,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate(..)")
    }
}

impl Certificate {
    /// Reads the PEM of a certificate, with those that lead to its authority behind it, and of its key.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn read(certificate: &Secret, key: &Secret) -> Result<Self, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.expose().as_bytes()).collect();
        if chain.map_or(true, |chain| chain.is_empty()) {
            return Err(CertificateError::NotACertificate);
        }
        // The chain's file may hold the key, too: one of the two counts.
        PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| CertificateError::OtherKey)?;
        let pem = Secret::new(format!("{}\n{}\n", key.expose(), certificate.expose()));
        let identity = Identity::from_pem(pem.expose().as_bytes()).map_err(|_| CertificateError::NotACertificate)?;
        // Whether they belong together shows when a client is made of them; this one will never connect.
        let client = reqwest::Client::builder().tls_certs_only([]).identity(identity.clone()).build();
        client.map_err(|_| CertificateError::OtherKey)?;
        Ok(Self { identity, digest: pem.digest() })
    }

    /// When the client's certificate ends, the first one of that PEM (RFC 5280 §4.1.2.5); `None` where it is none.
    #[must_use]
    pub fn not_after(certificate: &Secret) -> Option<Timestamp> {
        let first = CertificateDer::pem_slice_iter(certificate.expose().as_bytes()).next()?.ok()?;
        let (_, mut outer) = element(&mut &*first)?;
        let (_, mut fields) = element(&mut outer)?;
        // The version is there in all but the oldest; then number, algorithm and issuer stand before the validity.
        let version = fields.first().is_some_and(|tag| *tag == VERSION);
        for _ in 0..3 + usize::from(version) {
            element(&mut fields)?;
        }
        let (_, mut validity) = element(&mut fields)?;
        element(&mut validity)?;
        let (tag, text) = element(&mut validity)?;
        time(tag, std::str::from_utf8(text).ok()?)
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// Names this certificate with this key.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }
}

/// The tag of the version, `[0]`.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The next element of DER (X.690 §8.1), its tag and its contents; `input` stands behind it then.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (tag, rest) = input.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // No certificate is longer than four bytes can say.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((*tag, contents))
}

/// `UTCTime` or `GeneralizedTime`, in Zulu as RFC 5280 wants it.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let text = match tag {
        // Two digits of a year: from 50 on it is the last century (RFC 5280 §4.1.2.5.1).
        UTC_TIME => format!("{}{text}", if *text.as_bytes().first()? >= b'5' { "19" } else { "20" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let at = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests;
