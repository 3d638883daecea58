//! `extract` against a mock API: what is asked for, and what the files hold.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use etl_oauth::{
    job::{
        JobError,
        extract::{self, Plan},
    },
    testing::{MockApi, Recorded, Reply},
};
use serde_json::{Value, json};

async fn run(mock: &MockApi, folder: &Path, resources: &str) -> Result<Value, JobError> {
    let plan = format!("[sink]\nkind = 'folder'\npath = '{}'\n{resources}", folder.display());
    let outcome = extract::run(&Plan::read(&plan).unwrap(), &mock.context()).await?;
    Ok(outcome.json)
}

/// The records of all files of a resource, in order.
fn records(folder: &Path, resource: &str) -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir(folder.join(resource)) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn children_are_asked_for_once_for_each_new_record_of_their_parent() {
    let (mock, folder) = (MockApi::start().await, tempfile::tempdir().unwrap());
    let orders = |count: u64| {
        move |_: &Recorded| Reply::json((1..=count).map(|id| json!({ "id": format!("a/{id}"), "at": id })).collect())
    };
    let items = |_: &Recorded| Reply::json(json!({ "items": [{ "sku": "x" }, { "sku": "y" }] }));
    for id in 1..=3 {
        mock.on(&format!("GET /orders/a%2F{id}/items"), items);
    }
    let plan = "[[resource]]\nname = 'orders'\npath = '/orders'\nkey = 'id'\ncursor = { field = 'at', parameter = 'since' }\n\
        [[resource]]\nname = 'items'\npath = '/orders/{id}/items'\nrecords = 'items'\n\
        parent = { resource = 'orders', field = 'id', column = 'order' }\n";
    let orders_of = async |count: u64| {
        let mock = &mock;
        mock.on("GET /orders", orders(count));
        run(mock, folder.path(), plan).await.unwrap()
    };
    assert_eq!(orders_of(2).await["copied"], json!({ "orders": 2, "items": 4 }));
    assert_eq!(orders_of(3).await["copied"], json!({ "orders": 1, "items": 2 }));
    let items = records(folder.path(), "items");
    assert_eq!(items[0], json!({ "sku": "x", "order": "a/1" }));
    assert_eq!((items.len(), &items[5]["order"]), (6, &json!("a/3")));
    let asked = mock.calls().iter().filter(|call| call.ends_with("/items")).count();
    assert_eq!(asked, 3, "one request for each order");
}

#[tokio::test]
async fn a_post_with_a_cursor_in_its_body_is_walked_and_sent_again_when_it_breaks() {
    let (mock, folder) = (MockApi::start().await, tempfile::tempdir().unwrap());
    mock.reply("POST /graphql", Reply::status(502));
    mock.on("POST /graphql", |request| {
        let body: Value = request.json();
        assert_eq!(body["query"], "query ($after: String) { … }");
        let (ids, end) = match body["variables"]["after"].as_str() {
            None => (json!([{ "id": 1 }, { "id": 2 }]), json!({ "hasNextPage": true, "endCursor": "c2" })),
            Some("c2") => (json!([{ "id": 3 }]), json!({ "hasNextPage": false, "endCursor": "c3" })),
            Some(other) => panic!("{other}"),
        };
        Reply::json(json!({ "data": { "things": { "nodes": ids, "pageInfo": end } } }))
    });
    let plan = "[[resource]]\nname = 'things'\npath = '/graphql'\nrecords = 'data.things.nodes'\n\
        body = { query = 'query ($after: String) { … }', variables = { first = 2 } }\n\
        paging = { style = 'cursor', parameter = '/variables/after', next = 'data.things.pageInfo.endCursor', \
        more = 'data.things.pageInfo.hasNextPage' }\n";
    assert_eq!(run(&mock, folder.path(), plan).await.unwrap()["report"]["things"]["pages"], 2);
    assert_eq!(records(folder.path(), "things"), [json!({ "id": 1 }), json!({ "id": 2 }), json!({ "id": 3 })]);
    let last: Value = mock.requests()[2].json();
    assert_eq!(last["variables"], json!({ "first": 2, "after": "c2" }));
}

#[tokio::test]
async fn without_a_parameter_what_is_not_new_is_left_out_and_fields_are_chosen() {
    let (mock, folder) = (MockApi::start().await, tempfile::tempdir().unwrap());
    let thing = |id: u64| json!({ "id": id, "at": id * 10, "who": { "name": "Ada", "mail": "a@b" }, "gone": id == 2 });
    mock.reply("GET /things", Reply::json(json!([thing(2), thing(1)])));
    mock.reply("GET /things", Reply::json(json!([thing(3), thing(2), thing(1)])));
    let plan = "[[resource]]\nname = 'things'\npath = '/things'\nkey = 'id'\ncursor = { field = 'at' }\n\
        select = ['id', 'who.name']\nrename = { 'who.name' = 'name' }\ndeleted = 'gone'\n";
    for new in [2, 1, 0] {
        assert_eq!(run(&mock, folder.path(), plan).await.unwrap()["copied"]["things"], new);
    }
    assert!(mock.requests().iter().all(|request| request.queries.is_empty()));
    let wanted =
        [(2, true), (1, false), (3, false)].map(|(id, gone)| json!({ "id": id, "name": "Ada", "_deleted": gone }));
    assert_eq!(records(folder.path(), "things"), wanted);
}

#[cfg(feature = "parquet")]
#[tokio::test]
async fn parquet_files_have_typed_columns_and_dead_letters_lie_beside_them() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let (mock, folder) = (MockApi::start().await, tempfile::tempdir().unwrap());
    mock.reply("GET /things", Reply::json(json!([{ "id": 1, "n": 1 }, { "id": 2, "n": 2 }])));
    mock.reply(
        "GET /things",
        Reply::json(json!([{ "id": 3, "n": "many" }, { "id": 4, "n": u64::MAX }, { "id": 5, "n": 5 }])),
    );
    let plan = format!(
        "[sink]\nkind = 'folder'\npath = '{}'\nformat = 'parquet'\n[[resource]]\nname = 'things'\npath = '/things'\n\
         key = 'id'\ncursor = {{ field = 'id' }}\ndrift = 'freeze'\ndead_letters = true\n",
        folder.path().display()
    );
    let plan = Plan::read(&plan).unwrap();
    for (run, dead) in [(0, 0), (1, 2)] {
        let report = extract::run(&plan, &mock.context()).await.unwrap().json["report"]["things"].clone();
        assert_eq!(report["dead"], dead, "{report}");
        let file = folder.path().join(format!("things/{run:08}-000000.parquet"));
        let reader = SerializedFileReader::new(std::fs::File::open(file).unwrap()).unwrap();
        let rows = if run == 0 { 2 } else { 1 };
        assert_eq!(reader.metadata().file_metadata().num_rows(), rows);
    }
    let letters = std::fs::read_to_string(folder.path().join("things/00000001-000000.dead.jsonl")).unwrap();
    assert!(letters.contains("n: the value is text, and the column is integer"), "{letters}");
    assert_eq!(letters.lines().count(), 2);
}

#[tokio::test]
async fn a_preview_asks_for_first_pages_and_says_what_would_be_written() {
    let mock = MockApi::start().await;
    mock.reply(
        "GET /orders",
        Reply::json(json!({ "d": [{ "id": 7, "at": "2026-11-21" }, { "id": 8 }], "next": "p2" })),
    );
    mock.reply("GET /orders/7/items", Reply::json(json!([{ "price": 1.5 }, { "price": 2 }])));
    let plan = "[sink]\nkind = 'folder'\npath = '/nowhere'\n[[resource]]\nname = 'orders'\npath = '/orders'\nrecords = 'd'\nkey = 'id'\n\
        cursor = { field = 'at', parameter = 'since', start = '2026-01-01' }\npaging = { style = 'cursor', parameter = 'page', next = 'next' }\n\
        [[resource]]\nname = 'items'\npath = '/orders/{id}/items'\nparent = { resource = 'orders', field = 'id', column = 'order' }\n";
    let previews = extract::preview(&Plan::read(plan).unwrap(), &mock.api()).await.unwrap();
    let shown = serde_json::to_value(&previews).unwrap();
    assert_eq!(shown[0]["columns"], json!({ "id": "integer", "at": "date" }));
    assert_eq!((&shown[0]["records"], &shown[0]["has_more"]), (&json!(2), &json!(true)));
    assert_eq!(shown[0]["warnings"], json!(["1 of 2 records have no at"]));
    assert_eq!(shown[1]["request"], "GET /orders/7/items");
    assert_eq!(shown[1]["columns"], json!({ "price": "decimal", "order": "integer" }));
    assert_eq!(shown[1]["first"], json!({ "price": 1.5, "order": 7 }));
    assert_eq!(mock.requests()[0].query("since"), Some("2026-01-01"));
}
