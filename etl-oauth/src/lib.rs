//! etl-oauth
