//! etl-oauth
pub mod api;
pub mod config;
pub mod grant;
pub mod guard;
pub mod job;
pub mod keeper;
pub mod provider;
pub mod secrets;
pub mod store;
pub mod token;
mod words;
