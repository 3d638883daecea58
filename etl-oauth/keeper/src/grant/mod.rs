//! The requests of a grant and the reading of what comes back, without any IO: a request is a value, an answer is judged
//! by `(status, headers, body)`. [`Authority`] joins them over a [`HttpClient`].

pub mod dpop;

mod also;
mod api_request;
mod ask;
mod assertion;
mod authority;
mod authorize;
mod certificate;
mod client;
mod credentials;
mod device;
mod discovery;
mod hmac;
mod http_client;
mod key;
mod lookup;
pub(crate) mod network_error;
mod par;
mod registration;
mod request;
mod response;
mod template_vars;
mod token_request;

pub use also::also;
pub(crate) use api_request::{ApiExtras, api_extras};
pub use ask::{client_credentials, jwt_bearer, token_exchange, unattended};
pub use assertion::{bearer_assertion, client_assertion};
pub use authority::Authority;
pub(crate) use authority::count;
pub use authorize::{authorize_url, judge_redirect_error};
pub use certificate::{Certificate, CertificateError};
pub use client::Client;
pub use credentials::Credentials;
pub use device::{DeviceCodes, Polled, Polling, device_codes, device_token, judge_device_codes};
pub use dpop::Nonces;
pub use hmac::is_signed;
#[doc(hidden)]
pub use http_client::client_builder;
pub use http_client::{HttpClient, HttpLimits, SendError, Unanswered};
pub use key::{KeyError, SigningKey};
pub use lookup::judge_lookup;
pub use par::{judge_pushed, pushed};
pub use registration::{
    ClientMetadata, Discovered, RegisteredClient, discover, judge_registration, metadata, registration, wanted_auth,
};
pub use request::{Code, authorization_code, introspection, lookup, refresh_token, revocation, second, userinfo};
pub(crate) use response::retry_after;
pub use response::{
    HttpResponse, consented, judge_introspection, judge_renewal, judge_revocation, judge_token, judge_userinfo,
};
pub use token_request::TokenRequest;
