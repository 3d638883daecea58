//! The consent page: plain HTML that works without scripts, with a keyboard and with a screen reader.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Form, response::Html};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Deserialize;
use url::{Host, Url};

use super::grants::{Bound, Consent};
use super::{Shared, broken, now, scopes};

pub(super) const DEFAULT_USER: &str = "ada@example.com";

/// An authorization request that may be shown to a person.
#[derive(Debug)]
pub(super) struct Asked {
    client: String,
    redirect_uri: Url,
    /// As received: the token request must repeat it byte by byte.
    redirect_uri_text: String,
    state: Option<String>,
    scope: String,
    bound: Bound,
}

/// An invalid request: shown on a page where the redirect URI cannot be trusted, else sent to that URI.
#[derive(Debug)]
pub(super) enum Wrong {
    Shown(String),
    Sent { redirect_uri: Box<Url>, state: Option<String>, error: &'static str, description: &'static str },
}

/// `GET /oauth/authorize`
pub(super) async fn page(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    match Asked::resolve(&shared, query.as_deref().unwrap_or_default()) {
        Ok(asked) => consent_page(&asked),
        Err(wrong) => wrong.into_response(&shared),
    }
}

/// The person's decision.
#[derive(Debug, Deserialize)]
pub(super) struct Decision {
    decision: String,
    #[serde(default)]
    user: String,
}

/// `POST /oauth/authorize`, with the query of the page.
pub(super) async fn decide(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    Form(decision): Form<Decision>,
) -> Response {
    let query = query.unwrap_or_default();
    let asked = match Asked::resolve(&shared, &query) {
        Ok(asked) => asked,
        Err(wrong) => return wrong.into_response(&shared),
    };
    shared.book().pushed.forget(&query);
    if decision.decision != "allow" {
        let (error, description) = ("access_denied", "The person said no");
        return Wrong::Sent { redirect_uri: Box::new(asked.redirect_uri), state: asked.state, error, description }
            .into_response(&shared);
    }
    let user = match decision.user.trim() {
        "" => DEFAULT_USER.to_owned(),
        user => user.to_owned(),
    };
    let mut book = shared.book();
    let faults = book.faults.clone();
    let consent = Consent { client: asked.client, user, scope: asked.scope };
    match book.grants.code(consent, asked.redirect_uri_text, asked.bound, &faults, now()) {
        Ok(code) => redirect(&shared, asked.redirect_uri, asked.state.as_deref(), &[("code", &code)]),
        Err(error) => broken(&error),
    }
}

/// `GET /`: a page for people who open the address in a browser.
pub(super) async fn welcome(State(shared): State<Arc<Shared>>) -> Response {
    html_page(
        StatusCode::OK,
        None,
        "Sandbox provider",
        &html! {
            h1 { "Sandbox provider" }
            p { "This is an OAuth provider to try functions on. Applications send people to its consent page." }
            ul {
                li { a href=(format!("{}/.well-known/oauth-authorization-server", shared.issuer)) { "Metadata" } }
                li { a href=(format!("{}/device", shared.issuer)) { "Connect a device" } }
                li { a href=(format!("{}/admin/faults", shared.issuer)) { "Switches" } }
                li { a href=(format!("{}/admin/log", shared.issuer)) { "Log of token requests" } }
            }
        },
    )
}

impl Asked {
    /// Reads a query, or the pushed request that it refers to (RFC 9126 §4).
    fn resolve(shared: &Shared, query: &str) -> Result<Self, Wrong> {
        if !url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "request_uri") {
            return Self::read(shared, query);
        }
        let pushed = shared.book().pushed.resolve(query, now());
        let expired = || Wrong::Shown("The request_uri is unknown, has expired, or was used before.".to_owned());
        Self::read(shared, &pushed.ok_or_else(expired)?)
    }

    pub(super) fn read(shared: &Shared, query: &str) -> Result<Self, Wrong> {
        let get = |name: &str| {
            let mut values = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
            let first = values.next().map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty());
            (first, values.next().is_some())
        };
        let shown = |text: &str| Wrong::Shown(text.to_owned());
        let (client, twice) = get("client_id");
        let client = client.filter(|_| !twice).ok_or_else(|| shown("The request names no client_id, or two."))?;
        if shared.client(&client).is_none() {
            return Err(Wrong::Shown(format!("No application has the client_id “{client}” here.")));
        }
        let (redirect_uri_text, twice) = get("redirect_uri");
        let redirect_uri_text =
            redirect_uri_text.filter(|_| !twice).ok_or_else(|| shown("The request names no redirect_uri, or two."))?;
        let redirect_uri = Url::parse(&redirect_uri_text).ok().filter(is_on_this_machine).ok_or_else(|| {
            shown("The redirect_uri is no http address of this machine, and the sandbox sends people nowhere else.")
        })?;
        let (state, twice) = get("state");
        let sent = |error, description| Wrong::Sent {
            redirect_uri: Box::new(redirect_uri.clone()),
            state: state.clone(),
            error,
            description,
        };
        let names = ["state", "response_type", "scope", "code_challenge", "code_challenge_method", "dpop_jkt"];
        if twice || names.iter().any(|name| get(name).1) {
            return Err(sent("invalid_request", "A parameter came twice"));
        }
        match get("response_type").0.as_deref() {
            Some("code") => {}
            None => return Err(sent("invalid_request", "response_type is missing")),
            Some(_) => return Err(sent("unsupported_response_type", "response_type must be code")),
        }
        let challenge = get("code_challenge").0;
        // Without a method RFC 7636 §4.3 means "plain", which protects nothing.
        if challenge.is_some() && get("code_challenge_method").0.as_deref() != Some("S256") {
            return Err(sent("invalid_request", "code_challenge_method must be S256"));
        }
        // Strava's come with commas between them.
        let scope = scopes::requested(get("scope").0.map(|scope| scope.replace(',', " ")).as_deref())
            .map_err(|refused| sent(refused.error, refused.description))?;
        let bound = Bound { challenge, key: get("dpop_jkt").0 };
        Ok(Self { client, redirect_uri, redirect_uri_text, state, scope, bound })
    }
}

/// RFC 8252 §7.3: a loopback address with any port. Programs of this machine can read the sandbox anyway.
fn is_on_this_machine(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    };
    loopback && matches!(url.scheme(), "http" | "https") && url.fragment().is_none()
}

impl Wrong {
    /// What is wrong.
    pub(super) fn words(&self) -> &str {
        match self {
            Self::Shown(text) => text,
            Self::Sent { description, .. } => description,
        }
    }

    fn into_response(self, shared: &Shared) -> Response {
        match self {
            Self::Sent { redirect_uri, state, error, description } => {
                let answer = [("error", error), ("error_description", description)];
                redirect(shared, *redirect_uri, state.as_deref(), &answer)
            }
            Self::Shown(text) => html_page(
                StatusCode::BAD_REQUEST,
                None,
                "This request cannot be answered",
                &html! {
                    h1 { "This request cannot be answered" }
                    p { (text) }
                    p { "Go back to the application that sent you here; its configuration needs a look." }
                },
            ),
        }
    }
}

/// The response names its issuer (RFC 9207). 303, so that the browser does not repeat the form (RFC 9700 §4.12).
fn redirect(shared: &Shared, mut to: Url, state: Option<&str>, answer: &[(&str, &str)]) -> Response {
    to.query_pairs_mut()
        .extend_pairs(answer)
        .extend_pairs(state.map(|state| ("state", state)))
        .append_pair("iss", &shared.issuer);
    (StatusCode::SEE_OTHER, [(header::LOCATION, to.as_str())]).into_response()
}

fn consent_page(asked: &Asked) -> Response {
    let origin = asked.redirect_uri.origin().ascii_serialization();
    html_page(
        StatusCode::OK,
        Some(&origin),
        "Allow access?",
        &html! {
            h1 { "Allow access?" }
            p { "The application " strong { (asked.client) } " asks for permission to:" }
            (scopes::describe(&asked.scope))
            // No action: the form goes back to this very address, request and all.
            form method="post" {
                p {
                    label for="user" { "Sign in as" } br;
                    input #user name="user" type="text" value=(DEFAULT_USER) autocomplete="off" required;
                }
                p.actions {
                    button.primary type="submit" name="decision" value="allow" { "Allow" } " "
                    button type="submit" name="decision" value="deny" { "Deny" }
                }
            }
            p { "You will be sent to " code { (origin) } ". This is a sandbox: nothing here is real." }
        },
    )
}

/// The pages look like those of the function that sends people here.
const STYLE: &str = include_str!("../../../etl-oauth/templates/style.css");

/// What tells them from a real provider's.
const RIBBON: &str = "\
.ribbon{margin-left:auto;padding:.1rem .8rem;border-radius:1rem;background:var(--warn-bg);color:var(--warn)}
main{border-top:.3rem dashed var(--warn)}";

pub(super) fn html_page(status: StatusCode, form_target: Option<&str>, title: &str, main: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(RIBBON)) }
            }
            body {
                header { span { "Provider" } strong.ribbon { "sandbox" } }
                main { (main) }
            }
        }
    };
    // Browsers hold the redirect that follows a form to `form-action`, too.
    let csp = format!(
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self' {}; frame-ancestors 'none'; base-uri 'none'",
        form_target.unwrap_or_default()
    );
    let mut response = (status, Html(page.into_string())).into_response();
    let headers = response.headers_mut();
    if let Ok(csp) = HeaderValue::try_from(csp) {
        headers.insert(header::CONTENT_SECURITY_POLICY, csp);
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
