//! All accounts revoked at once.

use std::time::Duration;

use super::*;

impl Scene {
    /// The last revocation of all accounts, when nothing of it is left.
    async fn all_revoked(&self) -> Value {
        for _ in 0..1000 {
            let (status, told) = self.operate(Method::GET, "/revoke").await;
            assert_eq!(status, StatusCode::OK, "{told}");
            if told["left"] == 0 {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not end");
    }

    async fn states(&self) -> Vec<String> {
        let status = self.operate(Method::GET, "/status").await.1;
        status["accounts"].as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap().to_owned()).collect()
    }
}

async fn with_accounts(definition: &str) -> Scene {
    let scene = Scene::running(Job::None, definition, &[("min_run_interval", "0s")]).await;
    for account in ["default", "a", "b", "c"] {
        let done = scene.come_back(account, "ada:read write", str::to_owned).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    }
    scene
}

#[tokio::test]
async fn revoke_all_takes_every_account_and_nothing_begins_again() {
    let scene = with_accounts(&format!("{BY_USERINFO}revoke_url = 'URL/revoke'")).await;
    let begun = scene.send(Method::POST, "/enable", "", &[("account", "late")]).await;
    // Times of authorisations are whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (status, told) = scene.operate(Method::POST, "/revoke?all=true").await;
    assert_eq!((status, told), (StatusCode::ACCEPTED, json!({ "revoking": 4 })));
    let told = scene.all_revoked().await;
    assert_eq!(told, json!({ "left": 0, "revoked": 4, "impossible": 0, "failed": [] }));
    assert!(scene.states().await.iter().all(|state| state == "disabled"));
    let log: Vec<String> =
        reqwest::Client::new().get(format!("{}/revoke", scene.provider)).send().await.unwrap().json().await.unwrap();
    assert_eq!(log.len(), 8, "a refresh token and an access token each");

    // An authorisation that was under way brings nothing back.
    let url: url::Url = begun.location.parse().unwrap();
    let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("code", "ada:read write")
        .append_pair("state", &state)
        .finish();
    let late = scene.send(Method::GET, &format!("/oauth2/callback?{query}"), &begun.cookies, &[]).await;
    assert!(late.status == StatusCode::BAD_REQUEST && late.body.contains("state_revoked"), "{}", late.body);
    assert_eq!(scene.run().await.0, StatusCode::CONFLICT);

    // What is authorised afterwards stays, also when another process finds the plan.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    scene.authorise("ada:read write").await;
    let other = scene.restarted().await;
    assert_eq!(other.all_revoked().await["revoked"], 4);
    assert_eq!(other.states().await.iter().filter(|state| *state == "enabled").count(), 1);
}

#[tokio::test]
async fn where_the_provider_cannot_revoke_the_tokens_go_and_where_it_does_not_they_stay_until_forced() {
    let scene = with_accounts(BY_USERINFO).await;
    scene.operate(Method::POST, "/revoke?all=true").await;
    let told = scene.all_revoked().await;
    assert_eq!((&told["revoked"], &told["impossible"]), (&json!(0), &json!(4)), "{told}");

    let scene = with_accounts(&format!("{BY_USERINFO}revoke_url = 'URL/elsewhere'")).await;
    scene.operate(Method::POST, "/revoke?all=true").await;
    let told = loop {
        let told = scene.operate(Method::GET, "/revoke").await.1;
        if told["failed"].as_array().unwrap().len() == 4 {
            break told;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(told["left"], 4, "they are tried again: {told}");
    assert!(told["failed"][0]["error"].as_str().unwrap().contains("did not revoke"), "{told}");
    assert!(scene.states().await.iter().all(|state| state == "enabled"), "the tokens are still there");
    let (status, told) = scene.operate(Method::POST, "/revoke?all=true&force=true").await;
    assert_eq!((status, told), (StatusCode::ACCEPTED, json!({ "revoking": 4 })));
    assert_eq!(scene.all_revoked().await["failed"], json!([]));
    assert!(scene.states().await.iter().all(|state| state == "disabled"));
}
