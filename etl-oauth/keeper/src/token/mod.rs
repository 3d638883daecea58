//! The token record: what is known of one account's tokens, how a provider's answer becomes one, and the one place that
//! writes it out.

mod client_ref;
mod device;
mod extra_fields;
mod failure;
mod health;
pub mod jwt;
mod lifetime;
mod mark;
mod pending_notification;
mod record;
mod response;
#[cfg(test)]
mod samples;
mod secret;
mod serde_impl;
mod subject;
mod token_type;
mod tokens;

pub use client_ref::ClientRef;
pub use device::Device;
pub use extra_fields::ExtraFields;
pub use failure::{Failure, FailureKind};
pub use health::{Health, LastRenewal, Refused, State};
pub(crate) use lifetime::seconds;
pub use lifetime::{Unit, lenient_scope};
pub use mark::Mark;
#[cfg_attr(not(feature = "schema"), expect(unused_imports, reason = "the schema's type"))]
pub(crate) use mark::OneOrMany;
pub(crate) use mark::one_or_many;
pub use pending_notification::PendingNotification;
pub use record::{Intent, Record};
pub use response::{AnswerShape, Malformed, TokenResponse};
pub(crate) use response::{at, first, object, text};
pub use secret::Secret;
pub use serde_impl::CorruptRecord;
pub(crate) use subject::verified_email;
pub use subject::{IdTokenError, Subject};
pub use tokens::Tokens;
