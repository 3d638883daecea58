//! Device flows that are the provider's own.

use std::time::Duration;

use token_keeper::grant::{Polled, Polling};

use super::*;

fn with_status(status: u16, body: &str) -> HttpResponse {
    HttpResponse { status: StatusCode::from_u16(status).unwrap(), ..raw(body) }
}

#[test]
fn a_device_flow_of_its_own() {
    let it = provider("A device flow of its own");
    let request = grant::device_codes(&it, &client()).unwrap();
    assert_eq!((request.method().as_str(), request.url().as_str()), ("GET", "https://a.example/pins?app=id&kind=pin"));
    let codes = grant::judge_device_codes(&it, &with_status(201, r#"{"id":4711,"pin":"AB12","minutes":9}"#)).unwrap();
    assert_eq!((codes.device_code.expose(), &*codes.user_code), ("4711", "AB12"));
    assert_eq!((codes.lifetime, codes.interval), (Duration::from_secs(540), Duration::from_secs(5)));
    assert_eq!(codes.verification_uri.as_str(), "https://a.example/link");

    let request = grant::device_token(&it, &client(), &codes.device_code);
    assert_eq!((request.method().as_str(), request.url().as_str()), ("GET", "https://a.example/pins/4711"));
    assert_eq!((&request.headers()["x-client"], request.body()), (&"id".parse().unwrap(), ""));
    for code in ["a/b", "..", "?x"] {
        let request = grant::device_token(&it, &client(), &Secret::new(code));
        assert_eq!(request.url().path().matches('/').count(), 2, "{}", request.url());
        assert!(request.url().path().starts_with("/pins/") && request.url().query().is_none(), "{}", request.url());
    }

    let now = Timestamp::UNIX_EPOCH;
    let judge = |status, body: &str| Polling::of(&codes, now).judge(&it, Ok(with_status(status, body)), now);
    let wait = |polled| if let Polled::Wait(wait) = polled { wait.as_secs() } else { panic!("{polled:?}") };
    assert_eq!(wait(judge(404, "")), 5);
    assert_eq!(wait(judge(200, r#"{"authToken":null}"#)), 5);
    assert_eq!(wait(judge(420, "")), 10);
    for (status, code) in [(418, "access_denied"), (410, "expired_token")] {
        let Polled::Over(failure) = judge(status, "") else { panic!("{status}") };
        assert_eq!(failure.code(), Some(code));
    }
    let Polled::Allowed(answer) = judge(200, r#"{"authToken":"t"}"#) else { panic!("it is allowed") };
    assert_eq!(answer.access_token.expose(), "t");
}
