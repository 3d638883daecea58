//! etl-oauth
pub mod grant;
pub mod keeper;
pub mod provider;
pub mod seal;
pub mod secrets;
pub mod store;
pub mod token;
