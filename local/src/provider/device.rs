//! The device grant (RFC 8628): codes for a device, and the page where a person types one.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Form, Json};
use jiff::{SignedDuration, Timestamp};
use maud::html;
use serde::Deserialize;
use serde_json::json;

use super::authorize::{DEFAULT_USER, html_page};
use super::digest::Digest;
use super::faults::Faults;
use super::grants::{Consent, Refused};
use super::log::Entry;
use super::request::{Problem, Request};
use super::{Shared, broken, now, scopes};
use crate::random;

/// What `slow_down` adds (§3.5).
const SLOWER: SignedDuration = SignedDuration::from_secs(5);

/// The device codes that are valid.
#[derive(Debug, Default)]
pub(super) struct Devices(BTreeMap<Digest, Device>);

#[derive(Debug)]
struct Device {
    client: String,
    scope: String,
    user_code: String,
    ends_at: Timestamp,
    interval: SignedDuration,
    asked_at: Option<Timestamp>,
    decision: Decision,
}

#[derive(Debug)]
enum Decision {
    Open,
    Allowed(String),
    Denied,
}

/// The codes of one device.
struct Codes {
    device_code: String,
    user_code: String,
}

impl Devices {
    fn begin(&mut self, client: String, scope: String, faults: &Faults, now: Timestamp) -> anyhow::Result<Codes> {
        // A code that has just expired is still reported as expired.
        self.0.retain(|_, device| device.ends_at + SignedDuration::from_mins(10) > now);
        let (device_code, user_code) = (random::token()?, user_code()?);
        let seconds = |seconds: f64| SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::ZERO);
        let device = Device {
            client,
            scope,
            user_code: user_code.clone(),
            ends_at: now + seconds(faults.device_lifetime),
            interval: seconds(faults.device_interval),
            asked_at: None,
            decision: Decision::Open,
        };
        self.0.insert(Digest::of(&device_code), device);
        Ok(Codes { device_code, user_code })
    }

    /// The person's decision (§3.4, §3.5). A code that tokens were issued for is removed.
    pub(super) fn ask(&mut self, client: &str, device_code: &str, now: Timestamp) -> Result<Consent, Refused> {
        let digest = Digest::of(device_code);
        let device = self.0.get_mut(&digest).filter(|device| device.client == client);
        let device = device.ok_or_else(|| Refused::new("invalid_grant", "The device code is unknown, or was used"))?;
        let early = device.asked_at.replace(now).is_some_and(|before| now < before + device.interval);
        match &device.decision {
            _ if device.ends_at <= now => Err(Refused::new("expired_token", "The code was not entered in time")),
            Decision::Denied => Err(Refused::new("access_denied", "The person said no")),
            Decision::Allowed(user) => {
                let consent = Consent { client: client.to_owned(), user: user.clone(), scope: device.scope.clone() };
                self.0.remove(&digest);
                Ok(consent)
            }
            Decision::Open if early => {
                device.interval += SLOWER;
                Err(Refused::new("slow_down", "The device asks too often"))
            }
            Decision::Open => Err(Refused::new("authorization_pending", "The person has not decided yet")),
        }
    }

    /// The device of a code as a person typed it, in any spelling (§6.1).
    fn typed(&mut self, text: &str, now: Timestamp) -> Option<&mut Device> {
        let plain = |text: &str| text.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphabetic(), "");
        let text = plain(text);
        let open = |device: &&mut Device| device.ends_at > now && matches!(device.decision, Decision::Open);
        self.0.values_mut().filter(open).find(|device| plain(&device.user_code) == text)
    }
}

/// Letters that form no words and are not confused with one another (§6.1).
fn user_code() -> anyhow::Result<String> {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let letters = random::bytes::<8>()?.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    let half = |from: usize| letters[from..from + 4].iter().collect::<String>();
    Ok(format!("{}-{}", half(0), half(4)))
}

/// `POST /oauth/device`
pub(super) async fn begin(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked = Request::read(&headers, &body).and_then(|request| {
        let client = request.client(&shared, &mut Entry::default())?.to_owned();
        Ok((client, scopes::requested(request.optional("scope"))?))
    });
    let (client, scope) = match asked {
        Ok(asked) => asked,
        Err(problem) => return Problem::into_response(problem),
    };
    let mut book = shared.book();
    let faults = book.faults.clone();
    match book.devices.begin(client, scope, &faults, now()) {
        Ok(codes) => {
            let page = format!("{}/device", shared.issuer);
            let body = json!({
                "device_code": codes.device_code,
                "user_code": codes.user_code,
                "verification_uri": page,
                "verification_uri_complete": format!("{page}?user_code={}", codes.user_code),
                "expires_in": faults.device_lifetime as u64,
                "interval": faults.device_interval as u64,
            });
            Json(body).into_response()
        }
        Err(error) => broken(&error),
    }
}

/// The fields of the page's forms.
#[derive(Debug, Deserialize)]
pub(super) struct Typed {
    #[serde(default)]
    user_code: String,
    #[serde(default)]
    decision: String,
    #[serde(default)]
    user: String,
}

/// `GET /device`: asks for the code, or, with a code, for consent.
pub(super) async fn page(State(shared): State<Arc<Shared>>, Query(typed): Query<Typed>) -> Response {
    let mut book = shared.book();
    let Some(device) = book.devices.typed(&typed.user_code, now()) else {
        let wrong = !typed.user_code.is_empty();
        return ask_for_code(wrong);
    };
    html_page(
        StatusCode::OK,
        None,
        "Connect a device?",
        &html! {
            h1 { "Connect a device?" }
            p { "Only go on if your device shows the code " strong { (device.user_code) } "." }
            p { "The application " strong { (device.client) } " asks for permission to:" }
            (scopes::describe(&device.scope))
            form method="post" action="/device" {
                input type="hidden" name="user_code" value=(device.user_code);
                p {
                    label for="user" { "Sign in as" } br;
                    input #user name="user" type="text" value=(DEFAULT_USER) autocomplete="off" required;
                }
                p.actions {
                    button.primary type="submit" name="decision" value="allow" { "Allow" } " "
                    button type="submit" name="decision" value="deny" { "Deny" }
                }
            }
            p { "This is a sandbox: nothing here is real." }
        },
    )
}

fn ask_for_code(wrong: bool) -> Response {
    let (status, title) = (if wrong { StatusCode::BAD_REQUEST } else { StatusCode::OK }, "Connect a device");
    html_page(
        status,
        None,
        title,
        &html! {
            h1 { (title) }
            @if wrong { p role="alert" { "No device waits for this code. It may be mistyped, or have expired." } }
            form method="get" action="/device" {
                p {
                    label for="user_code" { "The code that your device shows" } br;
                    input #user_code name="user_code" type="text" autocomplete="off" autocapitalize="characters" required;
                }
                p.actions { button.primary type="submit" { "Go on" } }
            }
        },
    )
}

/// `POST /device`
pub(super) async fn decide(State(shared): State<Arc<Shared>>, Form(typed): Form<Typed>) -> Response {
    let mut book = shared.book();
    let Some(device) = book.devices.typed(&typed.user_code, now()) else { return ask_for_code(true) };
    let allowed = typed.decision == "allow";
    device.decision = match (allowed, typed.user.trim()) {
        (false, _) => Decision::Denied,
        (true, "") => Decision::Allowed(DEFAULT_USER.to_owned()),
        (true, user) => Decision::Allowed(user.to_owned()),
    };
    let words = if allowed { "Your device is connected" } else { "Your device was refused" };
    html_page(StatusCode::OK, None, words, &html! { h1 { (words) } p { "You can go back to it." } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_device_is_told_how_it_stands_and_slower_when_it_asks_too_often() {
        let (mut devices, faults) = (Devices::default(), Faults::default());
        let codes = devices.begin("app".into(), "view_sales".into(), &faults, at(0)).unwrap();
        let mut ask = |second| devices.ask("app", &codes.device_code, at(second)).map_err(|refused| refused.error);
        assert_eq!(ask(5).unwrap_err(), "authorization_pending");
        assert_eq!(ask(9).unwrap_err(), "slow_down");
        // For good: ten seconds from now on.
        assert_eq!(ask(18).unwrap_err(), "slow_down");
        assert_eq!(ask(33).unwrap_err(), "authorization_pending");
        let typed = codes.user_code.to_lowercase().replace('-', " ");
        devices.typed(&typed, at(40)).unwrap().decision = Decision::Allowed("ada".into());
        assert!(devices.typed(&typed, at(40)).is_none(), "decided once");
        assert_eq!(devices.ask("other", &codes.device_code, at(60)).unwrap_err().error, "invalid_grant");
        let consent = devices.ask("app", &codes.device_code, at(60)).unwrap();
        assert_eq!((consent.user.as_str(), consent.scope.as_str()), ("ada", "view_sales"));
        assert_eq!(devices.ask("app", &codes.device_code, at(80)).unwrap_err().error, "invalid_grant");
    }

    #[test]
    fn codes_that_expire_or_are_denied_are_reported_as_such() {
        let (mut devices, faults) = (Devices::default(), Faults::default());
        let codes = devices.begin("app".into(), "view_sales".into(), &faults, at(0)).unwrap();
        assert!(devices.typed(&codes.user_code, at(600)).is_none());
        assert_eq!(devices.ask("app", &codes.device_code, at(600)).unwrap_err().error, "expired_token");
        let codes = devices.begin("app".into(), "view_sales".into(), &faults, at(600)).unwrap();
        devices.typed(&codes.user_code, at(601)).unwrap().decision = Decision::Denied;
        assert_eq!(devices.ask("app", &codes.device_code, at(602)).unwrap_err().error, "access_denied");
    }
}
