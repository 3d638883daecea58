use std::sync::Arc;

use reqwest::{
    Client, ClientBuilder, Method, StatusCode,
    cookie::Jar,
    header::{AUTHORIZATION, HeaderMap},
    redirect::Policy,
};
use url::Url;

use crate::Stage;

/// A browser without a screen: cookies, redirects that are followed as a browser does, and forms.
#[derive(Clone, Debug)]
pub struct Browser {
    http: Client,
    jar: Arc<Jar>,
}

/// Where a browser has arrived.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its address.
    pub url: Url,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
    /// Every address on the way, the first one included.
    pub way: Vec<Url>,
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a browser that cannot go on fails its test")]
impl Browser {
    /// With an empty cookie jar.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Arc::default(), |builder| builder)
    }

    fn with(jar: Arc<Jar>, settings: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        let builder = Client::builder().cookie_provider(Arc::clone(&jar)).redirect(Policy::none());
        Self { http: settings(builder).build().unwrap(), jar }
    }

    /// The same one with its cookies, but without a password.
    #[must_use]
    pub fn signed_out(&self) -> Self {
        Self::with(Arc::clone(&self.jar), |builder| builder)
    }

    /// The operator's: it sends the password along, as a browser does once it was typed.
    #[must_use]
    pub fn of_operator(password: &str) -> Self {
        let mut headers = HeaderMap::new();
        let request = Client::new().get("http://127.0.0.1/").basic_auth("operator", Some(password)).build().unwrap();
        headers.extend(request.headers().get("authorization").cloned().map(|value| (AUTHORIZATION, value)));
        Self::with(Arc::default(), |builder| builder.default_headers(headers))
    }

    /// Opens an address and follows its redirects.
    pub async fn open(&self, url: &str) -> Page {
        self.go(Method::GET, url.parse().unwrap(), None).await
    }

    /// One request as it is, redirects not followed.
    pub async fn once(&self, url: &str) -> Page {
        self.send(Method::GET, &url.parse().unwrap(), None).await
    }

    /// Opens the enable page and presses its button: arrives at the provider's consent page.
    pub async fn enable(&self, stage: &Stage) -> Page {
        let page = self.open(&stage.url("/enable")).await;
        assert_eq!(page.status, 200, "{}", page.body);
        self.submit(&page, &[]).await
    }

    /// Submits the page's form with its hidden and preset fields, and `fields` over them.
    pub async fn submit(&self, page: &Page, fields: &[(&str, &str)]) -> Page {
        let (url, form) = page.form(fields);
        self.go(Method::POST, url, Some(form)).await
    }

    /// As [`Browser::submit`], redirects not followed.
    pub async fn submit_once(&self, page: &Page, fields: &[(&str, &str)]) -> Page {
        let (url, form) = page.form(fields);
        self.send(Method::POST, &url, Some(form)).await
    }

    async fn go(&self, method: Method, url: Url, form: Option<Vec<(String, String)>>) -> Page {
        let (mut method, mut form) = (method, form);
        let mut way = vec![url];
        loop {
            let mut page = self.send(method.clone(), way.last().unwrap(), form.clone()).await;
            let Some(next) = page.location() else {
                page.way = way;
                return page;
            };
            assert!(way.len() < 20, "a circle: {way:?}");
            if !matches!(page.status.as_u16(), 307 | 308) {
                (method, form) = (Method::GET, None);
            }
            way.push(next);
        }
    }

    async fn send(&self, method: Method, url: &Url, form: Option<Vec<(String, String)>>) -> Page {
        let mut request = self.http.request(method, url.clone()).header("accept", "text/html,*/*;q=0.8");
        if let Some(form) = form {
            request = request.form(&form);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        Page { url: url.clone(), status, headers, body: answer.text().await.unwrap(), way: Vec::new() }
    }
}

#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a page without what a test looks for fails it")]
impl Page {
    /// Where a redirect leads.
    #[must_use]
    pub fn location(&self) -> Option<Url> {
        if !self.status.is_redirection() {
            return None;
        }
        self.url.join(self.headers.get("location")?.to_str().ok()?).ok()
    }

    /// The address and the fields of the page's first form, with `fields` over the preset ones.
    fn form(&self, fields: &[(&str, &str)]) -> (Url, Vec<(String, String)>) {
        let start = self.body.find("<form").unwrap_or_else(|| panic!("no form at {}:\n{}", self.url, self.body));
        let form = &self.body[start..];
        let form = &form[..form.find("</form>").expect("the form's end")];
        let head = &form[..form.find('>').unwrap()];
        let action = attribute(head, "action").map_or(self.url.clone(), |action| self.url.join(&action).unwrap());
        let mut all: Vec<(String, String)> = form
            .split("<input")
            .skip(1)
            .filter_map(|input| {
                let tag = &input[..input.find('>')?];
                Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default()))
            })
            .filter(|(name, _)| !fields.iter().any(|(other, _)| other == name))
            .collect();
        all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        (action, all)
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = &tag[start..];
    Some(value[..value.find('"')?].replace("&amp;", "&").replace("&#38;", "&"))
}
