//! The client's certificate (RFC 8705).

use std::fmt;

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

    pub(crate) fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// Names this certificate with this key.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }
}

#[cfg(test)]
mod tests;
