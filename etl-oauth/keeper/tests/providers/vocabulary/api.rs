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
    assert!(facts.expired_in[0].is_in(br#"{"status":401}"#));
}

#[test]
fn secrets_at_the_api() {
    let it = provider("Secrets at the API");
    let facts = token_keeper::api::Facts::of(&it, "id").unwrap();
    assert_eq!((facts.later, facts.header.as_str()), (token_keeper::api::Later::Secrets, "cookie"));
    assert_eq!((&*facts.prefix, &*facts.suffix), ("sid=", "; path=/"));
    assert_eq!((facts.headers.len(), &facts.params[..]), (0, &[("version".to_owned(), "3".to_owned())][..]));
    // The same headers, with the account's values and the secrets, as a request of the grant's own to the API.
    let text = fs::read_to_string(folder("providers/FORMAT.md")).unwrap();
    let text = text.split("\n### Secrets at the API\n").nth(1).unwrap().split("```toml\n").nth(1).unwrap();
    let text = format!("userinfo_url = '/me'\nuserinfo_id = '/id'\n{}", text.split("```").next().unwrap());
    let it = Provider::new("acme", Definition::read("acme.toml", &text).unwrap(), Overrides::default()).unwrap();
    let secrets = [("developer".to_owned(), Secret::new("d3v"))].into();
    let client = Client { secrets, ..client() };
    let it = it.with(&[("organisation".to_owned(), "org 1".to_owned())].into());
    let request = grant::userinfo(&it, &client, &Secret::new("t")).unwrap();
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    assert_eq!([header("cookie"), header("x-api-key")], ["sid=t; path=/", "id:s"]);
    assert_eq!([header("x-developer"), header("x-organisation")], ["d3v", "org 1"]);
    assert_eq!(request.url().as_str(), "https://api.a.example/me?key=d3v&version=3");
    assert!(!format!("{request:?}").contains("d3v") && !format!("{:?}", request.headers()).contains("d3v"));
}
