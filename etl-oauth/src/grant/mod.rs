//! The requests of a grant and the reading of what comes back, without any IO: a request is a value, an answer is judged
//! by `(status, headers, body)`.

mod authorize;
mod client;
mod judge;
mod request;
mod sign;
mod wire;

pub use authorize::authorize_url;
pub use client::Client;
pub(crate) use judge::retry_after;
pub use judge::{RawAnswer, consented, judge_revocation, judge_token, judge_userinfo};
pub use request::{TokenRequest, authorization_code, refresh_token, revocation, second, userinfo};
pub use wire::{SendError, Wire};
