//! Further tokens of one consent. Each becomes an account of its own.

use crate::{
    provider::Provider,
    token::{AnswerShape, Record, TokenResponse},
};

/// The further tokens that came with the grant of `account`, each with the name of the account that keeps it. None where the
/// answer has none of them.
#[must_use]
pub fn also(provider: &Provider, account: &str, grant: &Record) -> Vec<(String, TokenResponse)> {
    let Some(tokens) = grant.tokens.as_ref().filter(|_| !provider.also.is_empty()) else { return Vec::new() };
    let fields = serde_json::Value::Object(tokens.answer.fields()).to_string();
    let read = |(name, token): (&String, &crate::provider::AlsoToken)| {
        let shape = AnswerShape {
            access_token: token.access_token.clone(),
            refresh_token: token.refresh_token.clone(),
            expires_in: token.expires_in.clone(),
            scope: token.scope.clone(),
            token_type: Vec::new(),
            expires_at: Vec::new(),
            refresh_expires_in: Vec::new(),
            refresh_expires_at: Vec::new(),
            ..provider.answer.clone()
        };
        let answer = shape.read(fields.as_bytes()).ok().filter(|answer| answer.unfinished.is_none())?;
        let owner = grant.owner.clone();
        // What is left of the answer is the first account's.
        let answer = TokenResponse { rest: serde_json::Map::new(), kept: tokens.kept.clone(), owner, ..answer };
        Some((format!("{account}-{name}"), answer))
    };
    provider.also.iter().filter_map(read).collect()
}
