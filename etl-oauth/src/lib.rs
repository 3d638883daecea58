//! etl-oauth
pub mod api;
pub mod grant;
pub mod guard;
pub mod keeper;
pub mod provider;
pub mod secrets;
pub mod store;
pub mod token;
