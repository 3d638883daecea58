//! Who may do what, and how a browser is known again.

mod allow;
mod cookie;
mod csrf;
mod decide;
mod floor;
mod invoke;
mod key;
mod once;
mod operator;
mod pending;
mod regrant;
mod site;
mod throttle;

pub use allow::{Allow, ApiPath};
pub use cookie::CookieJar;
pub use csrf::Csrf;
pub use decide::{Credentials, Decision, Door, EnableAuth, Refusal, State, Who, decide};
pub use floor::{Floor, Landed, Place};
pub use invoke::{Call, Caller, Callers, IamRules, InvokeAuth, Judged, JwtRules};
pub use key::Key;
pub(crate) use key::random;
pub use once::Once;
pub use operator::{Operator, Standing};
pub use pending::{Pending, StateError};
pub use regrant::{Concern, concerns};
pub use site::Site;
pub use throttle::{Throttle, Try};
