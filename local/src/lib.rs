//! OpenFaaS on a laptop, in one process and without Docker: the gateway's public behaviour, functions as processes, and
//! a sandbox OAuth provider with a small API to try them on.
//!
//! Every address is an option, with port 0 for a free port, so that tests can start any number of instances:
//!
//! ```
//! use local::provider::{Client, Options, Provider};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let provider = Provider::start(Options {
//!     address: "127.0.0.1:0".parse()?,
//!     clients: vec![Client::new("my-app", "a secret")],
//!     state: None,
//! })
//! .await?;
//! println!("authorise at {}/oauth/authorize", provider.url());
//! provider.stop().await;
//! # Ok(())
//! # }
//! ```

mod build_context;
mod console;
mod default_secrets;
mod event;
mod functions;
mod gateway;
mod host;
mod http;
mod options;
pub mod provider;
mod random;
mod run;
mod secrets;
mod server;
mod stack;
mod watch;

pub use self::console::Console;
pub use self::event::{Answer, Event};
pub use self::options::Options;
pub use self::run::{Local, Urls, build};
pub use self::secrets::Dialect;
