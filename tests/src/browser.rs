use std::sync::Arc;

use reqwest::{
    Client, Method, StatusCode,
    cookie::{CookieStore, Jar},
    header::HeaderMap,
    redirect::Policy,
};
use url::Url;

use crate::Stage;

/// A browser without a screen: cookies, redirects that are followed as a browser does, forms, and a person who knows the
/// operator's password and types it where it is asked for.
#[derive(Clone, Debug)]
pub struct Browser {
    http: Client,
    jar: Arc<Jar>,
    password: Option<String>,
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
        Self::with(Arc::default(), None)
    }

    fn with(jar: Arc<Jar>, password: Option<String>) -> Self {
        let builder = Client::builder().cookie_provider(Arc::clone(&jar)).redirect(Policy::none());
        Self { http: builder.build().unwrap(), jar, password }
    }

    /// Another one with the cookies that this one has for an address, but without the session and the password.
    #[must_use]
    pub fn signed_out(&self, url: &str) -> Self {
        let (url, jar): (Url, _) = (url.parse().unwrap(), Jar::default());
        let cookies = self.jar.cookies(&url);
        let cookies = cookies.as_ref().map_or("", |cookies| cookies.to_str().unwrap());
        for cookie in cookies.split("; ").filter(|cookie| !cookie.starts_with("etl-oauth-session=")) {
            jar.add_cookie_str(&format!("{cookie}; Path=/"), &url);
        }
        Self::with(Arc::new(jar), None)
    }

    /// The operator's: signs in on the form when it is led there.
    #[must_use]
    pub fn of_operator(password: &str) -> Self {
        Self::with(Arc::default(), Some(password.to_owned()))
    }

    /// Signs in at the function's address, where nothing would ask for it.
    pub async fn sign_in(&self, function: &str) {
        let page = self.open(&format!("{}/login", function.trim_end_matches('/'))).await;
        let password = self.password.as_deref().expect("the operator's browser");
        let signed_in = self.submit_once(&page, &[("password", password)]).await;
        assert_eq!(signed_in.status, 303, "the sign-in form: {}", signed_in.body);
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
        let page = self.follow(method.clone(), url.clone(), form.clone()).await;
        let asked = page.url.path().ends_with("/login") && page.status == 200;
        let Some(password) = self.password.as_ref().filter(|_| asked && !url.path().ends_with("/login")) else {
            return page;
        };
        let (login, fields) = page.form(&[("password", password)]);
        let signed_in = self.send(Method::POST, &login, Some(fields)).await;
        assert_eq!(signed_in.status, 303, "the sign-in form: {}", signed_in.body);
        self.follow(method, url, form).await
    }

    async fn follow(&self, method: Method, url: Url, form: Option<Vec<(String, String)>>) -> Page {
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
