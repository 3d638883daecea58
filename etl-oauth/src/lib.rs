//! etl-oauth
pub mod api;
pub mod job;
pub mod pages;
mod words;
