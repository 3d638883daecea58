//! Notifications of account state changes: the outbox that delivers each change at least once, and the webhook it goes to.

mod origin;
mod outbox;
mod signature;
mod webhook;

pub use origin::Origin;
pub(super) use outbox::Outbox;
pub use signature::WebhookKey;
pub use webhook::{AUTHORISED, Announcement, Announcer, Severity, post_webhook};
