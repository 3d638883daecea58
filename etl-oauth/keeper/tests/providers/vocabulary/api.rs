//! How the API is called.

use super::*;

#[test]
fn the_api() {
    let it = provider("The API");
    let request = grant::userinfo(&it, &client(), &Secret::new("t")).unwrap();
    assert_eq!(request.url().as_str(), "https://api.a.example/me");
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    assert_eq!([header("x-token"), header("x-client"), header("x-version")], ["t", "id", "3"]);
    let facts = token_keeper::api::Facts::of(&it, "id").unwrap();
    assert_eq!((facts.header.as_str(), &*facts.prefix, facts.expired.len()), ("x-token", "", 2));
    assert_eq!((&facts.headers["x-client"], facts.limits.remaining[0].as_str()), (&"id".parse().unwrap(), "x-left"));
    assert!(facts.expired_in.unwrap().is_in(br#"{"status":401}"#));
}
