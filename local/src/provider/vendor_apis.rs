//! APIs of further vendors, after their public documentation, with as much data as this project's clients need. They accept
//! any token of the sandbox and require no scope.
//!
//! | route | after |
//! | --- | --- |
//! | `/api/v3/athlete`, `/api/v3/athletes/{id}/stats`, `/api/v3/athlete/activities` | Strava, with its rate limit headers |
//! | `/2/users/me`, `/2/users/{id}/tweets` | X, with its rate limit headers |
//! | `/services/oauth2/authorize`, `/services/oauth2/token`, `/services/oauth2/revoke` | Salesforce: token answers with `instance_url` and without a lifetime |
//! | `/services/data/{version}/query`, `/services/data/{version}/query/{cursor}` | Salesforce, paged by `nextRecordsUrl` |

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, api::authorized, authorize, now, salesforce, token};

const ATHLETE: u64 = 227_615;
const USER: &str = "2244994945";

/// Rows of a page of Salesforce's; the real one has two thousand.
const ROWS: usize = 3;
const ACCOUNTS: usize = 7;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v3/athlete", get(athlete))
        .route("/api/v3/athletes/{id}/stats", get(stats))
        .route("/api/v3/athlete/activities", get(activities))
        .route("/2/users/me", get(me))
        .route("/2/users/{id}/tweets", get(tweets))
        .route("/services/data/{version}/query", get(query))
        .route("/services/data/{version}/query/{cursor}", get(query_more))
}

/// The authorization server under Salesforce's paths.
pub(super) fn grants() -> Router<Arc<Shared>> {
    Router::new()
        .route("/services/oauth2/authorize", get(authorize::page).post(authorize::decide))
        .route(salesforce::TOKEN, post(token::salesforce))
        .route("/services/oauth2/revoke", post(token::revoke))
}

type Shape = State<Arc<Shared>>;

fn strava(shared: &Shared, headers: &HeaderMap, body: &Value) -> Response {
    match authorized(shared, headers, None) {
        Ok(_) => ([("x-ratelimit-limit", "100,1000"), ("x-ratelimit-usage", "7,42")], Json(body)).into_response(),
        Err(_) => {
            let errors = json!([{ "resource": "Athlete", "field": "access_token", "code": "invalid" }]);
            let body = json!({ "message": "Authorization Error", "errors": errors });
            (StatusCode::UNAUTHORIZED, Json(body)).into_response()
        }
    }
}

async fn athlete(State(shared): Shape, headers: HeaderMap) -> Response {
    let body = json!({ "id": ATHLETE, "username": "marianne_t", "firstname": "Marianne", "resource_state": 2 });
    strava(&shared, &headers, &body)
}

async fn stats(State(shared): Shape, headers: HeaderMap, Path(id): Path<u64>) -> Response {
    if id != ATHLETE {
        return (StatusCode::FORBIDDEN, Json(json!({ "message": "Forbidden" }))).into_response();
    }
    let total = |count: u64| {
        json!({ "count": count, "distance": 1000.5 * count as f64, "moving_time": 300 * count, "elapsed_time": 310 * count,
            "elevation_gain": 12.0 * count as f64 })
    };
    let body = json!({
        "biggest_ride_distance": 175_454.0,
        "ytd_ride_totals": total(12), "ytd_run_totals": total(30), "ytd_swim_totals": total(0),
        "all_ride_totals": total(350), "all_run_totals": total(411), "all_swim_totals": total(8),
    });
    strava(&shared, &headers, &body)
}

#[derive(Deserialize)]
struct PageOf {
    #[serde(default = "one")]
    page: u64,
    #[serde(default = "thirty")]
    per_page: u64,
}

fn one() -> u64 {
    1
}

fn thirty() -> u64 {
    30
}

/// Sixty rides, one a day, newest first; of each seven one is visible to the athlete only, and one to followers.
async fn activities(State(shared): Shape, headers: HeaderMap, Query(wanted): Query<PageOf>) -> Response {
    let first = (wanted.page.max(1) - 1) * wanted.per_page;
    let rides: Vec<Value> = (first..(first + wanted.per_page).min(60))
        .map(|day| {
            let at = ago(i64::try_from(day).unwrap_or(0) * 24);
            let private = day % 7 == 3;
            let visibility = if private { "only_me" } else if day % 7 == 5 { "followers_only" } else { "everyone" };
            json!({
                "id": 154_504_250_376_823_u64 - day, "name": format!("Ride {}", 60 - day), "sport_type": "MountainBikeRide",
                "type": "Ride", "distance": 24_931.4 + day as f64, "moving_time": 4500 + day, "elapsed_time": 4600 + day,
                "total_elevation_gain": 516.0, "start_date": at, "timezone": "(GMT-08:00) America/Los_Angeles",
                "private": private, "visibility": visibility,
                "start_latlng": [37.83, -122.26], "map": { "summary_polyline": "ki{eFvqfiVqAWQIGEEKA" },
            })
        })
        .collect();
    strava(&shared, &headers, &json!(rides))
}

fn x(shared: &Shared, headers: &HeaderMap, limit: &'static str, body: &Value) -> Response {
    match authorized(shared, headers, None) {
        Ok(_) => {
            let reset = (now().as_second() + 900).to_string();
            let limits = [
                ("x-rate-limit-limit", limit.to_owned()),
                ("x-rate-limit-remaining", limit.parse::<u32>().map_or(0, |limit| limit - 1).to_string()),
                ("x-rate-limit-reset", reset),
            ];
            (limits, Json(body)).into_response()
        }
        Err(_) => {
            let body =
                json!({ "title": "Unauthorized", "type": "about:blank", "status": 401, "detail": "Unauthorized" });
            (StatusCode::UNAUTHORIZED, Json(body)).into_response()
        }
    }
}

async fn me(State(shared): Shape, headers: HeaderMap) -> Response {
    let body = json!({ "data": { "id": USER, "name": "X Dev", "username": "TwitterDev" } });
    x(&shared, &headers, "25", &body)
}

async fn tweets(State(shared): Shape, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if id != USER {
        let body = json!({ "errors": [{ "title": "Not Found Error", "detail": "Could not find user", "value": id }] });
        return x(&shared, &headers, "5", &body);
    }
    let post = |n: i64| json!({ "id": format!("13460{n:05}"), "text": format!("Post {n} <b>&"), "created_at": ago(n) });
    let body = json!({ "data": [post(1), post(2)], "meta": { "result_count": 2, "newest_id": "1346000001" } });
    x(&shared, &headers, "5", &body)
}

#[derive(Deserialize)]
struct Soql {
    q: String,
}

async fn query(
    State(shared): Shape,
    headers: HeaderMap,
    Path(version): Path<String>,
    Query(soql): Query<Soql>,
) -> Response {
    if !soql.q.to_ascii_uppercase().starts_with("SELECT ") {
        let body = json!([{ "message": "unexpected token", "errorCode": "MALFORMED_QUERY" }]);
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    rows(&shared, &headers, &version, 0)
}

async fn query_more(
    State(shared): Shape,
    headers: HeaderMap,
    Path((version, cursor)): Path<(String, String)>,
) -> Response {
    match cursor.strip_prefix("01gD0000002HU6KIAW-").and_then(|from| from.parse().ok()) {
        Some(from) => rows(&shared, &headers, &version, from),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn rows(shared: &Shared, headers: &HeaderMap, version: &str, from: usize) -> Response {
    if authorized(shared, headers, None).is_err() {
        let body = json!([{ "message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID" }]);
        return (StatusCode::UNAUTHORIZED, Json(body)).into_response();
    }
    let to = (from + ROWS).min(ACCOUNTS);
    let record = |n: usize| {
        json!({ "attributes": { "type": "Account", "url": format!("/services/data/{version}/sobjects/Account/001D{n:014}") },
            "Id": format!("001D{n:014}"), "Name": format!("Account {n}") })
    };
    let mut body = json!({
        "totalSize": ACCOUNTS, "done": to == ACCOUNTS, "records": (from..to).map(record).collect::<Vec<_>>(),
    });
    if to < ACCOUNTS {
        body["nextRecordsUrl"] = json!(format!("/services/data/{version}/query/01gD0000002HU6KIAW-{to}"));
    }
    ([("sforce-limit-info", "api-usage=18/5000")], Json(body)).into_response()
}

fn ago(hours: i64) -> Timestamp {
    let second = Timestamp::from_second(now().as_second()).unwrap_or_default();
    second.checked_sub(SignedDuration::from_hours(hours)).unwrap_or_default()
}
