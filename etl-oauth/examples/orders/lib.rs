use etl_oauth::{BoxError, Handler, api::Api, api::ApiError};

#[derive(Default, serde::Deserialize)]
struct Since {
    after: Option<String>,
}

#[derive(serde::Serialize)]
struct Orders {
    count: usize,
}

async fn orders(api: Api, since: Since) -> Result<Orders, ApiError> {
    let request = api.get("/v2/sales").query("after", since.after.unwrap_or("2026-01-01".into()));
    let answer: serde_json::Value = request.json().await?;
    Ok(Orders { count: answer["sales"].as_array().map_or(0, Vec::len) })
}

pub async fn handler() -> Result<Handler, BoxError> {
    etl_oauth::with(orders).await
}
