//! The image of `etl-oauth`, run in a container of its own behind `local`'s gateway. `tests/image.sh` builds it, and names
//! in `IMAGE_FUNCTION` the program that runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use serde_json::json;
use tests::Stage;

#[tokio::test]
async fn the_image_is_authorised_runs_its_job_and_renews() {
    let program = std::env::var("IMAGE_FUNCTION").expect("tests/image.sh runs this test");
    let stage = Stage::start(&program).await;
    let (status, answer) = stage.run().await;
    assert_eq!((status, answer["error"].as_str()), (409, Some("needs_authorisation")));

    // A token that ends soon.
    stage.provider().set_faults(&json!({"token_lifetime": 1})).unwrap();
    let done = stage.authorise().await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(done.url.as_str(), stage.url("/done"));
    let first = stage.secret("oauth2-refresh-token");
    stage.provider().set_faults(&json!({"token_lifetime": 3600})).unwrap();
    let start = Instant::now();
    while stage.outcomes("refresh_token issued") == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "the token has ended, and no run has renewed it");
        let (status, sales) = stage.run().await;
        assert_eq!(status, 200, "{sales}");
        assert!(sales["last_sale"]["amount"]["text"].is_string(), "{sales}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stage.outcomes("refresh_token issued"), 1);
    assert_ne!(stage.secret("oauth2-refresh-token"), first, "the renewed pair is stored");

    // A new process finds what the one before it has stored.
    let stage = stage.restart().await;
    assert_eq!(stage.run().await.0, 200);
    stage.stop().await;
}
