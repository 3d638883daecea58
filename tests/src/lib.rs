//! A stage for end-to-end tests: `local` with the function as a process, on ports and in a folder of its own, a browser
//! without a screen, and a road that can be closed.

mod browser;
mod fleet;
mod relay;
pub mod rogue;
mod stage;

pub use browser::{Browser, Page};
pub use fleet::{Fleet, LEASE};
pub use relay::Relay;
pub use rogue::Rogue;
pub use stage::Stage;
