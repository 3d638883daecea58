use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_holds_the_contract() {
    let it = Setting::postgres();
    let clauses = contract::holds(async || it.open("postgres").await).await;
    println!("postgres: {clauses} clauses of the contract hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_outlives_its_server() {
    let it = Setting::postgres();
    let url = variable("POSTGRES_URL");
    let (before, rest) = url.split_once('@').unwrap();
    let (server, database) = rest.split_once('/').unwrap();
    let detour = Detour::to(server).await;
    let direct = it.open("postgres").await;
    assert!(direct.load(&key("swap")).await.unwrap().is_none());
    it.mount("etl-oauth-postgres-url", &format!("{before}@{}/{database}", detour.address));
    outlives_its_server(&it.open("postgres").await, &direct, &detour).await;
}

#[tokio::test]
async fn postgres_keeps_functions_apart() {
    functions_are_apart("postgres", Setting::postgres()).await;
}

async fn postgres_client() -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&variable("POSTGRES_URL"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn postgres_keeps_nothing_in_the_clear_and_reseals() {
    let it = Setting::postgres();
    let client = postgres_client().await;
    a_new_first_key_reseals("postgres", &it, async || {
        let row = "SELECT row_to_json(it)::text FROM etl_oauth_record it WHERE function = $1";
        let row: String = client.query_one(row, &[&it.options.function]).await.unwrap().get(0);
        row.replace("\\\"", "\"")
    })
    .await;
}

#[tokio::test]
async fn postgres_makes_its_schema_once_however_many_start_together() {
    let it = Setting::postgres();
    let client = postgres_client().await;
    let schema = unique().replace('-', "_");
    client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    let url = variable("POSTGRES_URL");
    it.mount("etl-oauth-postgres-url", &format!("{url}?options=-csearch_path%3D{schema}"));
    let stores: Vec<_> = futures_util::future::join_all((0..8).map(|_| it.open("postgres"))).await;
    let swap = key("swap");
    let loads = futures_util::future::join_all(stores.iter().map(|store| store.load(&swap))).await;
    assert!(loads.iter().all(|loaded| matches!(loaded, Ok(None))), "{loads:?}");
    stores[0].save(&key("swap"), &contract::record(1, "a"), None, None).await.unwrap();
    // Who has it made may use it without the right to make anything.
    let role = unique().replace('-', "_");
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};"
    );
    client.batch_execute(&grants).await.unwrap();
    let (_, server) = url.split_once('@').unwrap();
    it.mount("etl-oauth-postgres-url", &format!("postgres://{role}:p@{server}?options=-csearch_path%3D{schema}"));
    let modest = it.open("postgres").await;
    let stored = modest.load(&key("swap")).await.unwrap().unwrap();
    modest.save(&key("swap"), &contract::record(2, "b"), None, Some(&stored.version)).await.unwrap();
    it.mount("etl-oauth-postgres-url", &format!("postgres://{role}:marker@{server}"));
    let refused = it.open("postgres").await.load(&key("swap")).await;
    assert!(
        matches!(&refused, Err(StoreError::Refused(why)) if why.contains("28P01") && !why.contains("marker")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn b5_what_is_damaged_in_postgres_is_no_missing_record() {
    let it = Setting::postgres();
    let client = postgres_client().await;
    // As a write of ours does it, with a version of its own.
    let write = "UPDATE etl_oauth_record SET record = $2, version = nextval('etl_oauth_version') WHERE function = $1";
    damage_is_no_missing_record(&it.open("postgres").await, async |damaged| {
        assert_eq!(client.execute(write, &[&it.options.function, &damaged]).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn tables_of_somebody_else_with_our_names_are_refused_and_left_alone() {
    let it = Setting::postgres();
    let client = postgres_client().await;
    let schema = unique().replace('-', "_");
    let theirs = format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.etl_oauth_record (id int);
         CREATE TABLE {schema}.etl_oauth_lease (id int); INSERT INTO {schema}.etl_oauth_record VALUES (7);"
    );
    client.batch_execute(&theirs).await.unwrap();
    let url = variable("POSTGRES_URL");
    it.mount("etl-oauth-postgres-url", &format!("{url}?options=-csearch_path%3D{schema}"));
    let store = it.open("postgres").await;
    for refused in [
        store.load(&key("swap")).await.map(drop),
        store.save(&key("swap"), &contract::record(1, "a"), None, None).await.map(drop),
        store.acquire(&key("swap"), "a", PATIENCE, Timestamp::now()).await.map(drop),
    ] {
        assert!(matches!(&refused, Err(StoreError::Refused(why)) if why.contains("42703")), "{refused:?}");
    }
    let left = client.query_one(&format!("SELECT id FROM {schema}.etl_oauth_record"), &[]).await.unwrap();
    assert_eq!(left.get::<_, i32>(0), 7);
}
