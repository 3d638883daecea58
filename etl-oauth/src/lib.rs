//! etl-oauth
pub mod api;
pub mod job;
mod words;
