//! The job that runs nothing: a call renews the token where that is due, and fails where there is none.

use serde_json::json;

use super::{Context, JobError, Outcome};
use token_keeper::api::ApiError;

/// Asks the keeper for a token, which renews one that ends soon.
pub(super) async fn run(context: &Context) -> Result<Outcome, JobError> {
    let token = context.api.keeper().token().await.map_err(ApiError::from)?;
    Ok(Outcome {
        json: json!({ "job": "none", "generation": token.generation() }),
        html: "<h1>Nothing to run</h1><p>The token is good. This function keeps it alive, and runs no job.</p>".into(),
        text: "The token is good. This function keeps it alive, and runs no job.\n".into(),
    })
}
