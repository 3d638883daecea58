use futures_util::TryStreamExt as _;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn nats_holds_the_contract() {
    let it = Setting::nats();
    let clauses = contract::holds(async || it.open("nats").await).await;
    println!("nats: {clauses} clauses of the contract hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_outlives_its_server() {
    let mut it = Setting::nats();
    let direct = it.options.nats_url.clone();
    let detour = Detour::to(direct.trim_start_matches("nats://")).await;
    it.options.nats_url = format!("nats://{}", detour.address);
    let store = it.open("nats").await;
    it.options.nats_url = direct;
    outlives_its_server(&store, &it.open("nats").await, &detour).await;
}

#[tokio::test]
async fn nats_keeps_functions_apart() {
    functions_are_apart("nats", Setting::nats()).await;
}

#[tokio::test]
async fn nats_keeps_nothing_in_the_clear_and_reseals() {
    let it = Setting::nats();
    let client = async_nats::connect(variable("NATS_URL")).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let key = format!("{}.record.swap", it.options.function);
    a_new_first_key_reseals("nats", &it, async || {
        let bucket = jetstream.get_key_value(&it.options.nats_bucket).await.unwrap();
        let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
        assert_eq!(keys, std::slice::from_ref(&key));
        String::from_utf8(bucket.get(&key).await.unwrap().unwrap().to_vec()).unwrap()
    })
    .await;
}

#[tokio::test]
async fn nats_prefers_the_url_of_the_secret() {
    let mut it = Setting::nats();
    it.mount("etl-oauth-nats-url", &it.options.nats_url);
    it.options.nats_url = "nats://127.0.0.1:1".into();
    assert!(it.open("nats").await.load(&key("swap")).await.unwrap().is_none());
    it.mount("etl-oauth-nats-url", "nats://user:marker@:x");
    let Err(StoreError::Config(why)) = Store::open("nats", &it.options).await else { panic!("a URL was taken") };
    assert!(why.contains("etl-oauth-nats-url") && !why.contains("marker"), "{why}");
}

#[tokio::test]
async fn b5_what_is_damaged_in_nats_is_no_missing_record() {
    let it = Setting::nats();
    let jetstream = async_nats::jetstream::new(async_nats::connect(variable("NATS_URL")).await.unwrap());
    let key = format!("{}.record.swap", it.options.function);
    damage_is_no_missing_record(&it.open("nats").await, async |damaged| {
        let bucket = jetstream.get_key_value(&it.options.nats_bucket).await.unwrap();
        bucket.put(&key, damaged.to_owned().into()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_bucket_that_was_lost_is_made_anew() {
    let it = Setting::nats();
    let jetstream = async_nats::jetstream::new(async_nats::connect(variable("NATS_URL")).await.unwrap());
    let store = it.open("nats").await;
    store.save(&key("swap"), &contract::record(1, "a"), None, None).await.unwrap();
    jetstream.delete_key_value(&it.options.nats_bucket).await.unwrap();
    let start = Instant::now();
    while let Err(err) = store.save(&key("swap"), &contract::record(2, "b"), None, None).await {
        assert!(matches!(err, StoreError::Unavailable(_)) && start.elapsed() < PATIENCE, "{err:?}");
    }
    assert_eq!(store.load(&key("swap")).await.unwrap().unwrap().record.generation, 2);
}
