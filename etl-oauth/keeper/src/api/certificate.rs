//! HTTP clients that show the client's certificate (RFC 8705 §3): where the API wants one, or binds tokens to it.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Api, ApiError, clients};

/// The two clients of an API: for bodies that are read, and for bodies that go through as they are.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    pub(super) http: reqwest::Client,
    pub(super) plain: reqwest::Client,
}

/// The clients with the certificate that is mounted now: another one makes new ones.
#[derive(Debug, Default)]
pub(super) struct ByCertificate(Mutex<Option<(String, Arc<Clients>)>>);

impl Api {
    /// The clients for the next request.
    pub(super) fn clients(&self) -> Result<Arc<Clients>, ApiError> {
        let shared = &self.shared;
        if !shared.options.provider.as_ref().is_some_and(|provider| provider.client_certificate) {
            return Ok(Arc::clone(&shared.clients));
        }
        let Some(certificate) = self.keeper.client()?.certificate else { return Err(ApiError::NoTls) };
        let mut known = shared.by_certificate.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((digest, clients)) = &*known
            && digest == certificate.digest()
        {
            return Ok(Arc::clone(clients));
        }
        let made = Arc::new(clients(Some(&certificate))?);
        *known = Some((certificate.digest().to_owned(), Arc::clone(&made)));
        Ok(made)
    }
}
