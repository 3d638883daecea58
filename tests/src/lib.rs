//! A stage for end-to-end tests: `local` with the function as a process, on ports and in a folder of its own, a browser
//! without a screen, a road that can be closed, and one on which things go wrong.

mod browser;
mod fault_proxy;
mod fleet;
mod relay;
/// A server that means ill.
pub mod rogue;
mod stage;

pub use browser::{Browser, Page};
pub use fault_proxy::{Fault, FaultProxy};
pub use fleet::{Fleet, LEASE, free_port};
pub use relay::Relay;
pub use rogue::Rogue;
pub use stage::Stage;
