use etl_oauth::testing::{MockApi, Reply};
use serde_json::{Value, json};

use super::{Done, enrich};

#[tokio::test]
async fn a_contact_without_a_company_gets_that_of_its_domain_which_is_looked_up_once() {
    let mock = MockApi::start().await;
    mock.on("GET /contacts", |request| match request.query("after") {
        None => Reply::json(json!({
            "results": [{ "id": "1", "email": "ada@acme.example" }, { "id": "2", "email": "b@acme.example" }],
            "paging": { "next": { "after": "2" } },
        })),
        Some(_) => Reply::json(json!({
            "results": [{ "id": "3", "email": "c@acme.example", "company": "Own" }, { "id": "4", "email": "d@nowhere.example" }],
        })),
    });
    mock.on("GET /companies", |request| match request.query("domain") {
        Some("acme.example") => Reply::json(json!({ "results": [{ "name": "Acme" }] })),
        _ => Reply::json(json!({ "results": [] })),
    });
    mock.reply("PATCH /contacts/1", Reply::json(json!({}))).reply("PATCH /contacts/2", Reply::json(json!({})));
    assert_eq!(enrich(mock.api(), ()).await.unwrap(), Done { seen: 4, enriched: 2 });
    let lookups = mock.calls().iter().filter(|call| *call == "GET /companies").count();
    assert_eq!(lookups, 2);
    let changed: Vec<_> = mock.requests().into_iter().filter(|request| request.method == "PATCH").collect();
    assert!(changed.iter().all(|request| request.json::<Value>() == json!({ "company": "Acme" })));
}
