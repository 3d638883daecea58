//! Who may do what, and how a browser is known again.

mod cookie;
mod csrf;
mod key;
mod once;
mod operator;
mod pending;

pub use cookie::CookieJar;
pub use csrf::Csrf;
pub use key::Key;
pub use once::Once;
pub use operator::{Operator, Standing};
pub use pending::{Pending, StateError};
