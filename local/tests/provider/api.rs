//! The API.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::Value;

use crate::sandbox::Sandbox;

#[tokio::test]
async fn sales_come_in_pages_of_ten_and_the_pages_add_up() {
    let sandbox = Sandbox::start().await;
    let tokens = sandbox.enabled().await;
    let (mut path, mut sizes, mut ids) = ("/v2/sales?after=2000-01-01".to_owned(), vec![], BTreeSet::new());
    loop {
        let page: Value = sandbox.api(&path, &tokens["access_token"]).await.json().await.unwrap();
        assert_eq!(page["success"], true);
        let sales = page["sales"].as_array().unwrap();
        sizes.push(sales.len());
        ids.extend(sales.iter().map(|sale| sale["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.get("next_page_url") else {
            assert!(page.get("next_page_key").is_none());
            break;
        };
        path = next.as_str().unwrap().to_owned();
        assert!(path.starts_with("/v2/sales?after=2000-01-01&page_key="), "{path}");
    }
    let (last, full) = sizes.split_last().unwrap();
    assert!(full.len() > 3 && full.iter().all(|size| *size == 10) && (1..=10).contains(last), "{sizes:?}");
    assert_eq!(ids.len(), sizes.iter().sum::<usize>());
}

#[tokio::test]
async fn sales_are_filtered_from_after_inclusive_to_before_exclusive() {
    let sandbox = Sandbox::start().await;
    let tokens = sandbox.enabled().await;
    let all: Value = sandbox.api("/v2/sales", &tokens["access_token"]).await.json().await.unwrap();
    // A day in the middle of the first page is complete on it.
    let day = all["sales"][5]["created_at"].as_str().unwrap()[..10].to_owned();
    let next = day.parse::<jiff::civil::Date>().unwrap().tomorrow().unwrap();
    let path = format!("/v2/sales?after={day}&before={next}");
    let found: Value = sandbox.api(&path, &tokens["access_token"]).await.json().await.unwrap();
    let days: BTreeSet<_> =
        found["sales"].as_array().unwrap().iter().map(|sale| &sale["created_at"].as_str().unwrap()[..10]).collect();
    assert_eq!(days, BTreeSet::from([day.as_str()]));
    let bad = sandbox.api("/v2/sales?after=yesterday", &tokens["access_token"]).await;
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
    assert_eq!(bad.json::<Value>().await.unwrap()["status"], 400);
}

#[tokio::test]
async fn the_api_wants_a_living_bearer_token_of_the_right_scope() {
    let sandbox = Sandbox::start().await;
    let none = sandbox.http.get(sandbox.at("/v2/sales")).send().await.unwrap();
    assert_eq!(none.status(), StatusCode::UNAUTHORIZED);
    let tokens = sandbox.enabled().await;
    let query = format!("/v2/sales?access_token={}", tokens["access_token"].as_str().unwrap());
    assert_eq!(sandbox.http.get(sandbox.at(&query)).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let narrow = [
        ("grant_type", "refresh_token"),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
        ("scope", "view_profile"),
    ];
    let narrow: Value = sandbox.token(&narrow).await.unwrap().json().await.unwrap();
    assert_eq!(sandbox.api("/v2/sales", &narrow["access_token"]).await.status(), StatusCode::FORBIDDEN);
    let user: Value = sandbox.api("/v2/user", &narrow["access_token"]).await.json().await.unwrap();
    assert_eq!(user["user"]["email"], "ada@example.com");
}
