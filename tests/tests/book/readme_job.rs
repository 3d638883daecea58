use etl_oauth::{BoxError, Handler, api::Api, api::ApiError};

async fn orders(api: Api, (): ()) -> Result<usize, ApiError> {
    let answer: serde_json::Value = api.get("/v2/sales").json().await?;
    Ok(answer["sales"].as_array().map_or(0, Vec::len))
}

pub async fn handler() -> Result<Handler, BoxError> {
    etl_oauth::with(orders).await
}
