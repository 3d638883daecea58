use etl_oauth::{BoxError, Router, api::Api, api::ApiError};

async fn orders(api: Api, (): ()) -> Result<usize, ApiError> {
    let answer: serde_json::Value = api.get("/v2/sales").json().await?;
    Ok(answer["sales"].as_array().map_or(0, Vec::len))
}

pub async fn handler() -> Result<Router, BoxError> {
    etl_oauth::with(orders).await
}
