//! The API that tokens are issued for, after Gumroad's `/v2`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};

use super::corrupt_response::{corrupted, overridden};
use super::digest::Digest;
use super::faults::{Delay, Malformed, Status};
use super::grants::{Consent, Dead};
use super::sales::{self, Sale};
use super::{Shared, dpop, now};

const PER_PAGE: usize = 10;

/// Applies the switches to API requests, and counts the requests.
pub(super) async fn faulty(State(shared): State<Arc<Shared>>, request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let (delay, status) = {
        let faults = &mut shared.book().faults;
        (Delay::take(&mut faults.api_delay), Status::take(&mut faults.api_status))
    };
    let pause = |seconds: f64| tokio::time::sleep(Duration::from_secs_f64(seconds));
    if let Some(delay) = &delay {
        pause(delay.before).await;
    }
    let response = match (status, dpop::admits(&shared, &request)) {
        (Some(status), _) => overridden(&status),
        (None, Ok(())) => next.run(request).await,
        (None, Err(challenge)) => *challenge,
    };
    shared.book().log.api_request(&path, response.status().as_str());
    if let Some(delay) = &delay {
        pause(delay.after).await;
    }
    response
}

/// The query of `GET /v2/sales`; other parameters are ignored, as Gumroad does.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    after: Option<String>,
    before: Option<String>,
    product_id: Option<String>,
    email: Option<String>,
    order_id: Option<String>,
    page_key: Option<String>,
}

/// `GET /v2/sales`: ten a page, newest first.
pub(super) async fn sales(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Response {
    if let Err(challenge) = authorized(&shared, &headers, Some("view_sales")) {
        return challenge.into_response();
    }
    match page(&wanted, sales::until(now())) {
        Ok(page) => answer(&shared, &page),
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({"status": 400, "error": error}))).into_response(),
    }
}

/// `GET /v2/user`: the token's account.
pub(super) async fn user(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let consent = match authorized(&shared, &headers, None) {
        Ok(consent) => consent,
        Err(challenge) => return challenge.into_response(),
    };
    let name = consent.user.split('@').next().unwrap_or_default();
    let mut user = json!({
        "bio": "Sells things that help people make things.",
        "name": name,
        "twitter_handle": null,
        // One id a person, so that a client can tell when another one authorised.
        "user_id": Digest::of(&consent.user).short(),
        "url": format!("https://{name}.gumroad.com"),
        "profile_url": format!("https://{name}.gumroad.com"),
    });
    if consent.scope.split(' ').any(|scope| scope == "view_profile" || scope == "view_sales") {
        user["email"] = json!(consent.user);
    }
    answer(&shared, &json!({"success": true, "user": user}))
}

fn answer(shared: &Shared, body: &Value) -> Response {
    match Malformed::take(&mut shared.book().faults.api_malformed) {
        Some(malformed) => corrupted(malformed.kind, StatusCode::OK, body),
        None => Json(body).into_response(),
    }
}

fn page(wanted: &Wanted, sales: Vec<Sale>) -> Result<Value, &'static str> {
    let date = |text: &Option<String>| match text {
        Some(text) => text.parse::<Date>().map(Some).map_err(
            |_| "Invalid date format provided in field 'before' or 'after'. Dates must be in the format YYYY-MM-DD.",
        ),
        None => Ok(None),
    };
    let (after, before) = (date(&wanted.after)?, date(&wanted.before)?);
    let order: Option<u64> = match &wanted.order_id {
        Some(id) => Some(id.parse().map_err(|_| "Invalid order ID provided in field 'order_id'.")?),
        None => None,
    };
    if wanted.page_key.as_ref().is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')) {
        return Err("Invalid page_key.");
    }
    let mut found = sales.into_iter().filter(|sale| {
        after.is_none_or(|after| sale.date() >= after)
            && before.is_none_or(|before| sale.date() < before)
            && order.is_none_or(|order| sale.order_id() == order)
            && wanted.product_id.as_deref().is_none_or(|id| sale.product_id() == id)
            && wanted.email.as_deref().is_none_or(|email| sale.email() == email)
            && wanted.page_key.as_ref().is_none_or(|key| sale.key() < *key)
    });
    let page: Vec<Sale> = found.by_ref().take(PER_PAGE).collect();
    let mut body = json!({"success": true, "sales": page});
    if let (Some(last), true) = (page.last(), found.next().is_some()) {
        let key = last.key();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let filters = [
            ("after", &wanted.after),
            ("before", &wanted.before),
            ("product_id", &wanted.product_id),
            ("email", &wanted.email),
        ];
        for (name, value) in filters.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            query.append_pair(name, value);
        }
        query.append_pair("page_key", &key);
        body["next_page_url"] = json!(format!("/v2/sales?{}", query.finish()));
        body["next_page_key"] = json!(key);
    }
    Ok(body)
}

/// The grant of the request's token, or the refusal.
pub(super) fn authorized(
    shared: &Shared,
    headers: &HeaderMap,
    scope: Option<&'static str>,
) -> Result<Consent, Challenge> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        // Whether it is the right one of the two for this token was looked at before.
        let known = ["bearer", "dpop"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        known.then(|| token.trim())
    });
    let mut book = shared.book();
    let consent = book.grants.consent_of(bearer.unwrap_or_default(), now()).map_err(Challenge::Token)?;
    if book.faults.api_unauthorized.take() {
        return Err(Challenge::Token(Dead::Revoked));
    }
    match scope {
        Some(scope) if !consent.scope.split(' ').any(|has| has == scope) => Err(Challenge::Scope(scope)),
        _ => Ok(consent),
    }
}

/// Doorkeeper's refusal: a header field and no body.
pub(super) enum Challenge {
    Token(Dead),
    Scope(&'static str),
}

impl IntoResponse for Challenge {
    fn into_response(self) -> Response {
        let (status, error, description) = match self {
            Self::Token(dead) => (StatusCode::UNAUTHORIZED, "invalid_token", dead.to_string()),
            Self::Scope(scope) => {
                let description = format!("Access to this resource requires scope '{scope}'.");
                (StatusCode::FORBIDDEN, "insufficient_scope", description)
            }
        };
        let value = format!("Bearer realm=\"Doorkeeper\", error=\"{error}\", error_description=\"{description}\"");
        (status, [(header::WWW_AUTHENTICATE, value)]).into_response()
    }
}
