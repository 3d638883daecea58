//! `extract` into tables of a real PostgreSQL, which `POSTGRES_URL` names.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use etl_oauth::{
    job::{
        JobError,
        extract::{self, Plan},
    },
    testing::{MockApi, Reply},
};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

/// A schema of its own, which goes away with the next test of its name.
struct Database {
    client: Client,
    schema: &'static str,
}

impl Database {
    async fn new(schema: &'static str) -> Self {
        let url = std::env::var("POSTGRES_URL").expect("POSTGRES_URL: run tests/stores.sh");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await.unwrap();
        Self { client, schema }
    }

    async fn mock(&self) -> MockApi {
        let mock = MockApi::start().await;
        mock.secret("etl-oauth-sink-url", &std::env::var("POSTGRES_URL").unwrap());
        mock
    }

    async fn run(&self, mock: &MockApi, resource: &str) -> Result<Value, JobError> {
        let plan = format!(
            "[sink]\nkind = 'postgres'\nschema = '{}'\n[[resource]]\nname = 'things'\npath = '/things'\n{resource}",
            self.schema
        );
        let outcome = extract::run(&Plan::read(&plan).unwrap(), &mock.context()).await?;
        Ok(outcome.json["report"]["things"].clone())
    }

    /// The rows of a query as JSON, in the order of the first column.
    async fn rows(&self, columns: &str) -> Value {
        self.query(&format!("SELECT {columns} FROM {}.things ORDER BY 1", self.schema)).await
    }

    async fn query(&self, query: &str) -> Value {
        let rows =
            self.client.query(&format!("SELECT coalesce(json_agg(row), '[]')::text FROM ({query}) row"), &[]).await;
        serde_json::from_str(rows.unwrap()[0].get(0)).unwrap()
    }

    async fn types(&self) -> Value {
        let query = format!(
            "SELECT json_object_agg(attname, format_type(atttypid, atttypmod))::text FROM pg_attribute \
             WHERE attrelid = '{}.things'::regclass AND attnum > 0",
            self.schema
        );
        serde_json::from_str(self.client.query_one(&query, &[]).await.unwrap().get(0)).unwrap()
    }
}

const KEYED: &str = "key = 'id'\ncursor = { field = 'at', parameter = 'since' }\n";

#[tokio::test]
async fn rows_are_typed_exact_upserted_and_columns_widen() {
    let (db, at) = (Database::new("extract_types").await, "2026-11-21T12:00:00.5Z");
    let mock = db.mock().await;
    let first = r#"[{"id":9223372036854775807,"at":1,"big":18446744073709551615,"price":12.500,"when":"AT","ok":true,"tags":[1],"note":"a\u0000b"},
        {"id":2,"at":2,"big":1,"price":3,"when":null,"ok":null,"tags":{"a":1},"note":"x\"; DROP"}]"#;
    mock.reply("GET /things", Reply::text(first.replace("AT", at)));
    mock.reply(
        "GET /things",
        Reply::text(r#"[{"id":2,"at":3,"big":1,"price":4,"when":"soon","ok":7,"tags":"t","new \"column\"":"n"}]"#),
    );
    let report = db.run(&mock, KEYED).await.unwrap();
    assert_eq!((&report["records"], &report["parts"]), (&json!(2), &json!(1)));
    let types = db.types().await;
    let kinds =
        ["id", "big", "price", "when", "ok", "tags", "note"].map(|name| types[name].as_str().unwrap().to_owned());
    assert_eq!(kinds, ["bigint", "numeric", "numeric", "timestamp with time zone", "boolean", "jsonb", "text"]);
    let exact = db.rows("id, big::text, price::text, note").await;
    assert_eq!(exact[1], json!({ "id": i64::MAX, "big": "18446744073709551615", "price": "12.500", "note": "ab" }));

    db.run(&mock, KEYED).await.unwrap();
    assert_eq!(mock.requests()[1].query("since"), Some("2"));
    let types = db.types().await;
    assert_eq!((&types["when"], &types["ok"], &types["tags"]), (&json!("text"), &json!("text"), &json!("jsonb")));
    let rows = db.rows("id, \"when\", ok, tags, \"new \"\"column\"\"\" AS new, note").await;
    assert_eq!(rows[0], json!({ "id": 2, "when": "soon", "ok": "7", "tags": "t", "new": "n", "note": null }));
    assert_eq!(rows[1]["when"], "2026-11-21T12:00:00.500000Z");
}

#[tokio::test]
async fn data_and_checkpoint_cannot_part_whatever_becomes_of_the_ledger() {
    let db = Database::new("extract_commit").await;
    let resource = format!(
        "{KEYED}records = 'd'\nbatch = 2\npaging = {{ style = 'offset', parameter = 'skip', size = 2, records = 'd' }}\n"
    );
    let serve = |mock: &MockApi, broken: u64| {
        mock.on("GET /things", move |request| {
            let number = |name: &str| request.query(name).map_or(0, |value| value.parse::<u64>().unwrap());
            let (since, skip) = (number("since"), number("skip"));
            if skip == broken {
                return Reply::status(404);
            }
            // Two of each moment, the last one given again.
            let all = (0..9).filter(|id| id / 2 >= since).skip(usize::try_from(skip).unwrap()).take(2);
            Reply::json(json!({ "d": all.map(|id| json!({ "id": id, "at": id / 2 })).collect::<Vec<_>>() }))
        });
    };
    for broken in [2, 4, 6, u64::MAX] {
        // Each run has a ledger of its own, as if the function's store were lost: the database goes on by itself.
        let mock = db.mock().await;
        serve(&mock, broken);
        assert_eq!(db.run(&mock, &resource).await.is_err(), broken != u64::MAX);
    }
    let count = db.rows("count(*), count(DISTINCT id) AS ids, max(id)").await;
    assert_eq!(count, json!([{ "count": 9, "ids": 9, "max": 8 }]));
    let mock = db.mock().await;
    serve(&mock, u64::MAX);
    assert_eq!(db.run(&mock, &resource).await.unwrap()["records"], 0);

    // A run that lost its turn without knowing it writes nothing.
    let moved =
        format!("UPDATE {}.etl_oauth_extract SET checkpoint = jsonb_set(checkpoint, '{{part}}', '7')", db.schema);
    let stolen = db.mock().await;
    let statement = std::sync::Arc::new(std::sync::Mutex::new(Some(moved)));
    let (sender, receiver) = std::sync::mpsc::channel();
    stolen.on("GET /things", move |_| {
        // Between the reading of the checkpoint and the write.
        sender.send(statement.lock().unwrap().take()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        Reply::json(json!({ "d": [{ "id": 100, "at": 100 }] }))
    });
    let steal = async {
        let statement = loop {
            match receiver.try_recv() {
                Ok(statement) => break statement.unwrap(),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        };
        db.client.batch_execute(&statement).await.unwrap();
    };
    let (run, ()) = tokio::join!(db.run(&stolen, &resource), steal);
    assert!(matches!(run, Err(JobError::Overtaken)), "{run:?}");
    assert_eq!(db.rows("count(*)").await[0]["count"], 9);
}

#[tokio::test]
async fn drift_is_frozen_discarded_or_kept_apart() {
    let db = Database::new("extract_drift").await;
    let mock = db.mock().await;
    mock.reply("GET /things", Reply::json(json!([{ "id": 1, "at": 1, "n": 1 }])));
    mock.reply("GET /things", Reply::json(json!([{ "id": 2, "at": 2, "n": "many" }, { "id": 3, "at": 3, "n": 3, "new": 1 }, { "id": 4, "at": 4, "n": 4 }])));
    db.run(&mock, &format!("{KEYED}drift = 'freeze'\n")).await.unwrap();
    let err = db.run(&mock, &format!("{KEYED}drift = 'freeze'\n")).await.unwrap_err().to_string();
    assert!(err.contains("the record 2: n: the value is text, and the column is integer"), "{err}");
    let report = db.run(&mock, &format!("{KEYED}drift = 'freeze'\ndead_letters = true\n")).await.unwrap();
    assert_eq!((&report["records"], &report["dead"]), (&json!(3), &json!(2)));
    assert_eq!(db.rows("id, n").await, json!([{ "id": 1, "n": 1 }, { "id": 4, "n": 4 }]));
    let letters = db
        .query("SELECT resource, record::json->>'id' AS id, reason FROM extract_drift.etl_oauth_dead_letter ORDER BY 2")
        .await;
    assert_eq!(
        (&letters[0]["id"], &letters[1]["reason"]),
        (&json!("2"), &json!("new: the value is integer, and there is no such column"))
    );

    mock.reply("GET /things", Reply::json(json!([])))
        .reply("GET /things", Reply::json(json!([{ "id": 5, "at": 5, "n": "x", "new": 1 }])));
    db.run(&mock, KEYED).await.unwrap();
    let report = db.run(&mock, &format!("{KEYED}drift = 'discard'\n")).await.unwrap();
    assert_eq!((&report["records"], &report["discarded"]), (&json!(1), &json!(2)));
    assert_eq!(db.rows("id, n").await[2], json!({ "id": 5, "n": null }));
}

#[tokio::test]
async fn a_full_refresh_is_seen_at_once_and_deletes_reach_the_table() {
    let db = Database::new("extract_swap").await;
    let mock = db.mock().await;
    let page = |ids: &[u64], next: bool| {
        Reply::json(
            json!({ "d": ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>(), "next": next.then_some("p2") }),
        )
    };
    let resource = "key = 'id'\nrecords = 'd'\nmode = 'replace'\nbatch = 1\n\
        paging = { style = 'cursor', parameter = 'page', next = 'next' }\n";
    mock.reply("GET /things", page(&[1, 2], true)).reply("GET /things", page(&[3], false));
    db.run(&mock, resource).await.unwrap();
    let ids = async || {
        db.rows("id").await.as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids().await, [1, 2, 3]);
    // A run that breaks after its first part leaves what was there.
    mock.reply("GET /things", Reply::json(json!({ "d": [] }))).reply("GET /things", page(&[4], true));
    let mock = db.mock().await;
    mock.reply("GET /things", page(&[4], true)).reply("GET /things", Reply::status(404));
    assert!(db.run(&mock, resource).await.is_err());
    assert_eq!(ids().await, [1, 2, 3]);
    // The next one goes on, and what is not in it is gone.
    let mock = db.mock().await;
    mock.reply("GET /things", page(&[5], false));
    db.run(&mock, resource).await.unwrap();
    assert_eq!(ids().await, [4, 5]);
    assert_eq!(db.query("SELECT * FROM extract_swap.things__new").await, json!([]));

    let db = Database::new("extract_deletes").await;
    let mock = db.mock().await;
    let thing = |id: u64, at: u64, gone: Option<&str>| json!({ "id": id, "at": at, "gone_at": gone });
    mock.reply("GET /things", Reply::json(json!([thing(1, 1, None), thing(2, 1, None)])));
    mock.reply("GET /things", Reply::json(json!([thing(1, 2, Some("2026-11-21"))])));
    mock.reply("GET /things", Reply::json(json!([])));
    for _ in 0..2 {
        db.run(&mock, &format!("{KEYED}deleted = 'gone_at'\n")).await.unwrap();
    }
    assert_eq!(
        db.rows("id, _deleted, _account").await,
        json!([
            { "id": 1, "_deleted": true, "_account": "default" }, { "id": 2, "_deleted": false, "_account": "default" },
        ])
    );
    db.run(&mock, &format!("{KEYED}deleted = 'gone_at'\nremove_deleted = true\n")).await.unwrap();
    assert_eq!(db.rows("id").await, json!([{ "id": 2 }]));
}

#[tokio::test]
async fn a_lookback_asks_again_and_a_late_record_is_there_once() {
    let db = Database::new("extract_late").await;
    let mock = db.mock().await;
    let thing = |id: u64, at: &str, n: u64| json!({ "id": id, "at": at, "n": n });
    mock.reply(
        "GET /things",
        Reply::json(json!([thing(1, "2026-11-21T00:00:00Z", 1), thing(2, "2026-11-22T00:00:00Z", 1)])),
    );
    mock.reply(
        "GET /things",
        Reply::json(json!([thing(3, "2026-11-21T12:00:00Z", 1), thing(2, "2026-11-22T00:00:00Z", 2)])),
    );
    let resource = "key = 'id'\ncursor = { field = 'at', parameter = 'since', lookback = '1d' }\n";
    for _ in 0..3 {
        db.run(&mock, resource).await.unwrap();
    }
    let since: Vec<_> = mock.requests().iter().map(|request| request.query("since").map(str::to_owned)).collect();
    assert_eq!(since[1..], [Some("2026-11-21T00:00:00Z".to_owned()), Some("2026-11-21T00:00:00Z".to_owned())]);
    assert_eq!(db.rows("id, n").await, json!([{ "id": 1, "n": 1 }, { "id": 2, "n": 2 }, { "id": 3, "n": 1 }]));
}

#[tokio::test]
async fn the_example_copies_a_shop_into_tables() {
    let db = Database::new("shop").await;
    let mock = db.mock().await;
    let order =
        |id: u64, at: &str| json!({ "id": id, "updated_at": at, "total": "12.50", "customer": { "name": "Ada" } });
    mock.on("GET /orders", move |request| match request.query("cursor") {
        None => Reply::json(json!({ "data": [order(1, "2026-11-21T10:00:00Z")], "next_cursor": "c" })),
        Some(_) => Reply::json(json!({ "data": [order(2, "2026-11-21T11:00:00Z")] })),
    });
    for id in [1, 2] {
        let items = json!({ "data": [{ "id": id * 10, "sku": "x" }, { "id": id * 10 + 1, "sku": "y" }] });
        mock.reply(&format!("GET /orders/{id}/items"), Reply::json(items));
    }
    mock.reply("GET /customers", Reply::json(json!({ "data": [{ "id": "ada" }] })));
    let plan = Plan::read(include_str!("../examples/copy_to_table/plan.toml")).unwrap();
    for _ in 0..2 {
        extract::run(&plan, &mock.context()).await.unwrap();
    }
    let orders = db.query("SELECT id, total::text, customer_name, _deleted FROM shop.orders ORDER BY 1").await;
    assert_eq!(orders[1], json!({ "id": 2, "total": "12.50", "customer_name": "Ada", "_deleted": false }));
    let items = db.query("SELECT order_id, count(*) FROM shop.items GROUP BY 1 ORDER BY 1").await;
    assert_eq!(items, json!([{ "order_id": 1, "count": 2 }, { "order_id": 2, "count": 2 }]));
    assert_eq!(db.query("SELECT id FROM shop.customers").await, json!([{ "id": "ada" }]));
}
