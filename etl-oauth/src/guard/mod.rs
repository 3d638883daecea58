//! Authentication and authorisation of requests, and the cookies of browsers.

mod allow;
mod coalesce;
mod cookie;
mod csrf;
mod grant_diff;
mod invoke;
mod key;
mod oauth_state;
mod operator;
mod origin;
mod policy;
mod replay_cache;
mod session;
mod throttle;

pub use allow::{Allow, ApiPath};
pub use coalesce::{Coalesce, Landed, Place};
pub use cookie::CookieJar;
pub use csrf::Csrf;
pub use grant_diff::{Concern, concerns};
pub use invoke::{
    Call, Caller, Callers, IamRules, Identity, InvokeAuth, Judged, JwtRules, Progress, Rights, SignedBody, digest_fits,
};
pub use key::Key;
pub(crate) use key::random;
pub use oauth_state::{Pending, StateError, UsedStates, Wish};
pub use operator::{AuthOutcome, Operator};
pub use origin::Site;
pub use policy::{Credentials, Decision, EnableAuth, Endpoint, Refusal, State, Who, decide};
pub use replay_cache::{ReplayCache, Use};
pub use session::Session;
pub use throttle::{Guess, Throttle, Try};
