//! The token record: what is known of one account's tokens, how a provider's answer becomes one, and the one place that
//! writes it out.

mod answer;
mod device;
mod failure;
mod health;
pub mod jwt;
mod lifetime;
mod owner;
mod record;
mod rest;
#[cfg(test)]
mod samples;
mod secret;
mod tokens;
mod untold;
mod written;

pub use answer::{Answer, AnswerShape, Malformed, Mark};
pub(crate) use answer::{at, object, text};
pub use device::Device;
pub use failure::{Class, Failure};
pub use health::{Health, Refused, Renewal, State};
pub use lifetime::{Unit, lenient_scope};
pub use owner::{IdTokenError, Owner};
pub use record::{Intent, Record};
pub use rest::Rest;
pub use secret::Secret;
pub use tokens::Tokens;
pub use untold::Untold;
pub use written::CorruptRecord;
