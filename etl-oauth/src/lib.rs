//! etl-oauth
pub mod grant;
pub mod provider;
pub mod secrets;
pub mod store;
pub mod token;
