use std::time::Duration;

use http::{StatusCode, header};
use serde_json::Value;
use url::Url;

use super::{Exit, Failure, arguments::Target};
use token_keeper::token::Secret;

const VARIABLE: &str = "ETL_OAUTH_OPERATOR";

/// The function, over its own routes, asked by the operator.
#[derive(Debug)]
pub(super) struct Remote {
    http: reqwest::Client,
    base: String,
    operator: Option<Secret>,
}

impl Remote {
    pub(super) fn new(target: &Target) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            // A redirect could carry the operator's secret to another origin.
            .redirect(reqwest::redirect::Policy::none())
            // A renewal waits for the provider.
            .timeout(Duration::from_secs(90))
            .user_agent(concat!("etl-oauth-cli/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|err| Failure::new(Exit::Failed, "tls", err.to_string(), ""))?;
        Ok(Self { http, base: base(&target.url), operator: operator(target)? })
    }

    /// The address of a page of the function.
    pub(super) fn page(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(self.http.get(self.page(path)), path).await
    }

    /// As a form with the names of connection and account.
    pub(super) async fn post(&self, path: &str, target: &Target) -> Result<Value, Failure> {
        self.send(self.http.post(self.page(path)).form(&target.fields()), path).await
    }

    /// As JSON.
    pub(super) async fn post_json(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(self.http.post(self.page(path)).json(body), path).await
    }

    /// For all accounts.
    pub(super) async fn post_all(&self, path: &str) -> Result<Value, Failure> {
        self.send(self.http.post(self.page(path)), path).await
    }

    /// Begins an authorisation: what the function answers, or nothing where a person begins it in a browser.
    pub(super) async fn begin(&self, target: &Target) -> Result<Option<Value>, Failure> {
        let request = self.http.post(self.page("/enable")).form(&target.fields());
        let answer = self.ask(request).await?;
        if answer.status().is_redirection() {
            return Ok(None);
        }
        self.read(answer, "/enable").await.map(Some)
    }

    async fn send(&self, request: reqwest::RequestBuilder, path: &str) -> Result<Value, Failure> {
        let answer = self.ask(request).await?;
        self.read(answer, path).await
    }

    async fn ask(&self, mut request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        if let Some(operator) = &self.operator {
            request = request.bearer_auth(operator.expose());
        }
        request.header(header::ACCEPT, "application/json").send().await.map_err(|err| self.unreachable(&err))
    }

    async fn read(&self, answer: reqwest::Response, path: &str) -> Result<Value, Failure> {
        let status = answer.status();
        let body = answer.bytes().await.map_err(|err| self.unreachable(&err))?;
        match serde_json::from_slice::<Value>(&body) {
            // Half a revocation is an answer, too: it says which half.
            Ok(answer) if status.is_success() || answer.get("store").is_some() => Ok(answer),
            Ok(answer) if answer["error"].is_string() => Err(refused(status, &answer)),
            _ => {
                let message = format!("{} answers {status}, and is no etl-oauth", self.page(path));
                let next = "Compare --url with the function's public_url.";
                Err(Failure::new(Exit::Failed, "not_etl_oauth", message, next))
            }
        }
    }

    fn unreachable(&self, err: &reqwest::Error) -> Failure {
        let why = if err.is_timeout() { "does not answer in time" } else { "is not to be reached" };
        Failure::new(Exit::Failed, "unreachable", format!("{} {why}", self.base), "Check --url, and the way there.")
    }
}

/// Without a slash at its end, a query or a fragment.
fn base(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.as_str().trim_end_matches('/').to_owned()
}

fn operator(target: &Target) -> Result<Option<Secret>, Failure> {
    let text = match &target.operator_file {
        None => std::env::var(VARIABLE).ok(),
        Some(file) => Some(std::fs::read_to_string(file).map_err(|err| {
            let message = format!("{} cannot be read: {err}", file.display());
            Failure::new(Exit::NotOperator, "operator_file", message, "Name a file that holds the operator's secret.")
        })?),
    };
    Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).map(Secret::new))
}

fn refused(status: StatusCode, answer: &Value) -> Failure {
    let word = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let exit = match status.as_u16() {
        401 | 403 | 404 | 429 => Exit::NotOperator,
        409 => Exit::NeedsPerson,
        _ => Exit::Failed,
    };
    let next = match exit {
        Exit::NotOperator if status == StatusCode::UNAUTHORIZED => {
            format!("Give the operator's secret in a file by --operator-file, or in {VARIABLE}.")
        }
        _ => word("next"),
    };
    Failure { exit, error: word("error"), message: word("message"), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_the_address_alone() {
        for url in
            ["https://g.example/function/f", "https://g.example/function/f/", "https://g.example/function/f?a=b#c"]
        {
            assert_eq!(base(&url.parse().unwrap()), "https://g.example/function/f");
        }
    }
}
