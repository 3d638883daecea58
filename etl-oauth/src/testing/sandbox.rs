use std::collections::BTreeMap;

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tower::ServiceExt;
use url::Url;

use super::{MockApi, folder::Folder};
use crate::{
    Config, Function,
    job::{Context, Job, JobError, Own},
};

/// The operator's secret in a sandbox.
const OPERATOR: &str = "operator of the sandbox";
/// The function's URL.
const PUBLIC_URL: &str = "http://127.0.0.1/function/job";

/// The whole function with a job in it, for one test: routes, authorisation, tokens in a store of its own, and as provider and
/// API a [`MockApi`]. Nothing listens but the mock, and nothing is left behind.
///
/// ```
/// # use etl_oauth::{api::{Api, ApiError}, testing::{Reply, Sandbox}};
/// # use serde_json::{Value, json};
/// # async fn orders(api: Api, (): ()) -> Result<Value, ApiError> { api.get("/orders").json().await }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let sandbox = Sandbox::start(orders).await;
/// sandbox.api().reply("GET /orders", Reply::json(json!([7])));
/// assert_eq!(sandbox.run("").await.status, 409, "not authorised yet");
/// sandbox.authorize().await;
/// assert_eq!(sandbox.run("").await.json(), json!([7]));
/// # }
/// ```
#[derive(Debug)]
pub struct Sandbox {
    api: MockApi,
    /// Those of named connections.
    apis: BTreeMap<String, MockApi>,
    router: Router,
    _folder: Folder,
}

/// An answer of the function.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("an answer in JSON")
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Sandbox {
    /// The function with that job, as [`crate::with`] takes it.
    pub async fn start<C, I, O, E, F>(job: impl Fn(C, I) -> F + Send + Sync + 'static) -> Self
    where
        C: From<Context>,
        I: DeserializeOwned + Default + Send + 'static,
        O: Serialize + Send + 'static,
        E: Into<JobError> + Send + 'static,
        F: Future<Output = Result<O, E>> + Send + 'static,
    {
        Self::with(job, &[]).await
    }

    /// The same with further variables (`("min_run_interval", "10s")`).
    ///
    /// # Panics
    /// When they are wrong; the message lists each mistake.
    pub async fn with<C, I, O, E, F>(
        job: impl Fn(C, I) -> F + Send + Sync + 'static,
        variables: &[(&str, &str)],
    ) -> Self
    where
        C: From<Context>,
        I: DeserializeOwned + Default + Send + 'static,
        O: Serialize + Send + 'static,
        E: Into<JobError> + Send + 'static,
        F: Future<Output = Result<O, E>> + Send + 'static,
    {
        let (api, folder) = (MockApi::start().await, Folder::new());
        folder.write("oauth2-client-id", "client");
        folder.write("oauth2-client-secret", "secret");
        let variable = |name: &str| {
            if let Some((_, value)) = variables.iter().find(|(known, _)| *known == name) {
                return Some((*value).to_owned());
            }
            Some(match name {
                "provider" => "custom".to_owned(),
                "authorize_url" => api.url("/oauth/authorize"),
                "token_url" => api.url("/oauth/token"),
                "api_url" => api.url(""),
                _ => return None,
            })
        };
        let router = started(Own::new(job), &folder, variable).await;
        Self { api, apis: BTreeMap::new(), router, _folder: folder }
    }

    /// The function with that job and several connections, each of which has a provider and an API of its own. The job runs
    /// for the accounts of the first one.
    ///
    /// # Panics
    /// When no connection is named, or a name breaks the rule of names.
    pub async fn with_connections<C, I, O, E, F>(
        job: impl Fn(C, I) -> F + Send + Sync + 'static,
        connections: &[&str],
    ) -> Self
    where
        C: From<Context>,
        I: DeserializeOwned + Default + Send + 'static,
        O: Serialize + Send + 'static,
        E: Into<JobError> + Send + 'static,
        F: Future<Output = Result<O, E>> + Send + 'static,
    {
        let (folder, mut apis, mut file) = (Folder::new(), BTreeMap::new(), String::new());
        for name in connections {
            folder.write(&format!("{name}-oauth2-client-id"), "client");
            folder.write(&format!("{name}-oauth2-client-secret"), "secret");
            let api = MockApi::start().await;
            let [authorize, token, base] = ["/oauth/authorize", "/oauth/token", ""].map(|path| api.url(path));
            file += &format!(
                "[connections.{name}]\nprovider = 'custom'\nauthorize_url = '{authorize}'\ntoken_url = '{token}'\n\
                 api_url = '{base}'\n"
            );
            apis.insert((*name).to_owned(), api);
        }
        folder.write("connections.toml", &file);
        let first = *connections.first().expect("a connection");
        let variable = |name: &str| match name {
            "connections_file" => Some("connections.toml".to_owned()),
            "job" => Some("none".to_owned()),
            "job_connection" => Some(first.to_owned()),
            _ => None,
        };
        let router = started(Own::new(job), &folder, variable).await;
        Self { api: apis[first].clone(), apis, router, _folder: folder }
    }

    /// The API of a connection, and the provider of its tokens.
    ///
    /// # Panics
    /// When there is no such connection.
    #[must_use]
    pub fn api_of(&self, connection: &str) -> &MockApi {
        self.apis.get(connection).unwrap_or_else(|| panic!("there is no connection {connection}"))
    }

    /// The API, and the provider of its tokens.
    #[must_use]
    pub fn api(&self) -> &MockApi {
        &self.api
    }

    /// Authorises the account `default` as a person does: begins at `/enable`, allows it at the provider, and comes back.
    ///
    /// # Panics
    /// When a step fails; the message has the page.
    pub async fn authorize(&self) {
        self.authorize_at("/oauth2/callback", "account=default").await;
    }

    /// The same at a connection.
    ///
    /// # Panics
    /// As [`Sandbox::authorize`].
    pub async fn authorize_connection(&self, connection: &str) {
        let form = format!("connection={connection}&account=default");
        self.authorize_at(&format!("/oauth2/callback/{connection}"), &form).await;
    }

    async fn authorize_at(&self, callback: &str, form: &str) {
        let page = self.operator(Method::POST, "/enable", form).await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", String::from_utf8_lossy(&page.body));
        let asked: Url = page.header(header::LOCATION).parse().expect("the provider's address");
        let state = asked.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
        let back = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("code", "code-of-the-sandbox"), ("state", &state)])
            .finish();
        let set = page.headers.get_all(header::SET_COOKIE).iter();
        let cookies: Vec<_> = set.filter_map(|cookie| cookie.to_str().ok()?.split(';').next()).collect();
        let request = Request::get(format!("{callback}?{back}"))
            .header(header::AUTHORIZATION, format!("Bearer {OPERATOR}"))
            .header(header::ACCEPT, "text/html")
            .header(header::COOKIE, cookies.join("; "))
            .body(Bytes::new());
        let done = self.call(request.expect("a request")).await;
        let page = String::from_utf8_lossy(&done.body);
        let place = done.header(header::LOCATION);
        assert!(place.starts_with(&format!("{PUBLIC_URL}/done")), "{} {place}: {page}", done.status);
    }

    /// Runs the job with that input, as a caller does.
    pub async fn run(&self, input: impl Into<Bytes>) -> Answer {
        self.call(Request::post("/").body(input.into()).expect("a request")).await
    }

    /// Asks for a page or a route as the operator; `form` is the body.
    pub async fn operator(&self, method: Method, path: &str, form: &str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {OPERATOR}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "text/html, application/json;q=0.9")
            .body(Bytes::from(form.to_owned()));
        self.call(request.expect("a request")).await
    }

    /// Sends the function any request.
    pub async fn call(&self, request: Request<Bytes>) -> Answer {
        let Ok(answer) = self.router.clone().oneshot(request.map(Body::from)).await;
        let (head, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole answer");
        Answer { status: head.status, headers: head.headers, body }
    }
}

/// The function with that job, over a file store in `folder`. `variable` gives what is not the same for every sandbox.
///
/// # Panics
/// When the variables are wrong; the message lists each mistake.
async fn started(job: Own, folder: &Folder, variable: impl Fn(&str) -> Option<String>) -> Router {
    folder.write("etl-oauth-operator", OPERATOR);
    folder.write("etl-oauth-seal-keys", "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let path = folder.path().display();
    let config = Config::read(|name| {
        variable(name).or_else(|| {
            Some(match name {
                "public_url" => PUBLIC_URL.to_owned(),
                "store" => "file".to_owned(),
                "store_path" => format!("{path}/store"),
                "allow_ephemeral_store" | "show_result" => "true".to_owned(),
                "min_run_interval" => "0s".to_owned(),
                // A test counts the calls of its job alone.
                "sweep" => "off".to_owned(),
                "secret_mount_path" => path.to_string(),
                _ => return None,
            })
        })
    });
    let mut config = config.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    config.job = Job::Own(job);
    let function = Function::new(config).await.unwrap_or_else(|err| panic!("the function does not start: {err}"));
    function.router()
}
