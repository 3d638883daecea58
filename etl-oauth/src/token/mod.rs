//! The token record: what is known of one account's tokens, how a provider's answer becomes one, and the one place that
//! writes it out.

mod answer;
mod device;
mod failure;
pub(crate) mod jwt;
mod lifetime;
mod owner;
mod record;
mod secret;

pub use answer::{Answer, AnswerShape, Malformed, Mark};
pub(crate) use answer::{at, object, text};
pub use device::Device;
pub use failure::{Class, Failure};
pub use lifetime::{Unit, lenient_scope};
pub use owner::{IdTokenError, Owner};
pub use record::{CorruptRecord, Health, Intent, Record, Refused, Renewal, State, Tokens, Untold};
pub use secret::Secret;
