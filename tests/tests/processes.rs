//! Several processes of the function over one store, killed at random: the provider must never see a refresh token spent
//! twice but where a kill explains it, and the token must work at the end.
//!
//! The file store needs nothing but this machine; the others run where `stores.sh` has started their servers.
//! `PROCESSES_SECONDS` is how long the storm lasts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tests::{Fleet, LEASE};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// What happens to a process while others call.
#[derive(Clone, Copy)]
enum Blow {
    Kill,
    /// Stopped for longer than a lease, then let go on.
    Sleep,
}

fn seconds() -> Duration {
    Duration::from_secs(std::env::var("PROCESSES_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8))
}

/// Callers at every process, and blows to one after another, for as long as the storm lasts.
async fn storm(name: &str, mut fleet: Fleet, callers: usize, blows: &[Blow]) {
    let stop = Arc::new(AtomicBool::new(false));
    let [good, refused, unanswered]: [Arc<AtomicU64>; 3] = std::array::from_fn(|_| Arc::default());
    let calling: Vec<_> = (0..callers)
        .map(|caller| {
            let url = fleet.url(caller % fleet.size(), "/");
            let (good, refused, unanswered) = (Arc::clone(&good), Arc::clone(&refused), Arc::clone(&unanswered));
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let http = reqwest::Client::new();
                while !stop.load(Ordering::Relaxed) {
                    match http.post(&url).send().await {
                        Ok(answer) if answer.status().is_success() => good.fetch_add(1, Ordering::Relaxed),
                        // A failure that will pass.
                        Ok(_) => refused.fetch_add(1, Ordering::Relaxed),
                        // A process that was just killed.
                        Err(_) => unanswered.fetch_add(1, Ordering::Relaxed),
                    };
                }
            })
        })
        .collect();
    let (start, mut kills, mut naps, mut step) = (Instant::now(), 0_u64, 0_u64, 0_usize);
    while start.elapsed() < seconds() {
        let victim = step % fleet.size();
        match blows[step % blows.len()] {
            Blow::Kill => {
                // Anywhere within a token's life: where it hits a renewal is what the storm is for.
                tokio::time::sleep(Duration::from_millis(150 + 137 * (step as u64 % 7))).await;
                fleet.kill(victim).await;
                kills += 1;
            }
            Blow::Sleep => {
                fleet.signal(victim, "-STOP").await;
                tokio::time::sleep(LEASE + Duration::from_millis(500)).await;
                fleet.signal(victim, "-CONT").await;
                naps += 1;
            }
        }
        step += 1;
    }
    stop.store(true, Ordering::Relaxed);
    for task in calling {
        task.await.unwrap();
    }
    // The token works at the end, at every process.
    let http = reqwest::Client::new();
    for index in 0..fleet.size() {
        fleet.until_up(index).await;
        let start = Instant::now();
        loop {
            let answer = http.post(fleet.url(index, "/")).send().await.unwrap();
            if answer.status().is_success() {
                break;
            }
            let text = answer.text().await.unwrap();
            assert!(start.elapsed() < Duration::from_secs(30), "process {index}: {text}\n{}", fleet.log(index));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let log = fleet.provider_log();
    let count = |what: &str| log["outcomes"][format!("refresh_token {what}")].as_u64().unwrap_or(0);
    let (issued, replayed, reused) = (count("issued"), count("replayed"), count("reuse_detected"));
    #[allow(clippy::print_stdout, reason = "the numbers are what the storm is for")]
    {
        println!(
            "{name}: {} processes, {:?}: {} runs, {} refused for now, {} without an answer; {kills} kills, {naps} naps; \
             {issued} renewals, {replayed} replays, {reused} reuses",
            fleet.size(),
            seconds(),
            good.load(Ordering::Relaxed),
            refused.load(Ordering::Relaxed),
            unanswered.load(Ordering::Relaxed),
        );
    }
    assert!(good.load(Ordering::Relaxed) > 0 && issued > 0);
    assert_eq!(reused, 0, "a refresh token was spent twice: {log}");
    assert!(replayed <= kills, "{replayed} replays, and only {kills} kills to explain them");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_four_processes_over_files_survive_kills_and_naps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens").display().to_string();
    let store = [("store", "file"), ("store_path", &*path), ("allow_ephemeral_store", "true")];
    let fleet = Fleet::start(PROGRAM, 4, &store, &[]).await;
    storm("file", fleet, 20, &[Blow::Kill, Blow::Kill, Blow::Sleep]).await;
}

#[tokio::test]
async fn b1_a_process_that_is_told_to_stop_ends_when_its_new_tokens_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (path, away) = (folder.path().join("tokens"), folder.path().join("away"));
    let place = path.display().to_string();
    let variables = [
        ("store", "file"),
        ("store_path", &*place),
        ("allow_ephemeral_store", "true"),
        ("enable_auth", "first_visit"),
        ("token_timeout", "20s"),
        ("lease", "60s"),
        ("exec_timeout", "30s"),
        ("write_timeout", "30s"),
    ];
    let mut fleet = Fleet::unauthorised(PROGRAM, 1, &variables, &[]).await;
    fleet.provider().set_faults(&serde_json::json!({"token_lifetime": 1})).unwrap();
    assert_eq!(fleet.authorise().await.status, 200);
    let slow =
        serde_json::json!({"token_lifetime": 3600, "reuse_detection": true, "delay": {"after": 4.0, "times": 1}});
    fleet.provider().set_faults(&slow).unwrap();
    let (url, stop) = (fleet.url(0, "/"), Arc::new(AtomicBool::new(false)));
    let calls = tokio::spawn({
        let (url, stop) = (url.clone(), Arc::clone(&stop));
        async move {
            loop {
                let status = reqwest::Client::new().post(&url).send().await.unwrap().status();
                if stop.load(Ordering::Relaxed) {
                    return status.as_u16();
                }
            }
        }
    });
    let start = Instant::now();
    while fleet.provider_log()["outcomes"]["refresh_token issued"].is_null() {
        assert!(start.elapsed() < Duration::from_secs(30), "nothing is renewed:\n{}", fleet.log(0));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The provider has rotated, and its answer is on the way: what it answers cannot be stored.
    std::fs::rename(&path, &away).unwrap();
    stop.store(true, Ordering::Relaxed);
    assert_eq!(calls.await.unwrap(), 200, "served from memory");
    fleet.signal(0, "-TERM").await;
    let start = Instant::now();
    while reqwest::Client::new().get(&url).send().await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(30), "it goes on taking calls");
    }
    // Time enough for one that does not wait to be gone.
    for _ in 0..10 {
        assert!(fleet.is_alive(0), "it ended, and the only refresh token with it:\n{}", fleet.log(0));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::fs::rename(&away, &path).unwrap();
    assert_eq!(fleet.ended(0).await.code(), Some(0), "{}", fleet.log(0));
    fleet.until_up(0).await;
    let answer = reqwest::Client::new().post(&url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "{}", fleet.log(0));
    assert_eq!(fleet.provider_log()["outcomes"]["refresh_token issued"], 1);
    fleet.stop().await;
}

#[cfg(feature = "components")]
mod servers {
    use tests::Relay;

    use super::*;

    /// One process, whose store is away at the start, comes, goes and comes back.
    #[tokio::test]
    async fn a_store_that_is_away_is_degraded_service_and_no_crash() {
        let road = Relay::closed().await;
        let url = std::env::var("POSTGRES_URL").expect("run by stores.sh");
        let (login, rest) = url.split_once('@').unwrap();
        let (server, _) = rest.split_once('/').unwrap();
        road.lead_to(&format!("http://{server}"));
        // Every server has this database, and nobody else has tokens in it.
        let url = format!("{login}@{}/template1", road.address());
        let variables = [("store", "postgres"), ("enable_auth", "first_visit")];
        let secrets = [("etl-oauth-postgres-url", &*url), ("etl-oauth-operator", "the word of an operator")];
        let fleet = Fleet::unauthorised(PROGRAM, 1, &variables, &secrets).await;
        fleet.provider().set_faults(&serde_json::json!({"token_lifetime": 3600})).unwrap();
        let http = reqwest::Client::new();
        let run = async || http.post(fleet.url(0, "/")).send().await.unwrap().status().as_u16();
        let is_store_ok = async || {
            let request = http.get(fleet.url(0, "/status")).bearer_auth("the word of an operator");
            let request = request.header("accept", "application/json");
            let status: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
            status["store"]["ok"].as_bool().unwrap()
        };
        let until = async |wanted: bool| {
            let start = Instant::now();
            while is_store_ok().await != wanted {
                assert!(start.elapsed() < Duration::from_secs(30), "{}", fleet.log(0));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(!is_store_ok().await);
        assert_eq!(run().await, 503, "nobody knows whether it is authorised");
        road.open();
        until(true).await;
        assert_eq!(run().await, 409);
        assert_eq!(fleet.authorise().await.status, 200);
        assert_eq!(run().await, 200);
        road.close();
        until(false).await;
        assert_eq!(run().await, 200, "its token lives");
        road.open();
        until(true).await;
        assert_eq!(run().await, 200);
        fleet.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a2_eight_processes_over_kubernetes_survive_kills() {
        let cluster = std::env::var("KUBECONFIG").expect("run by stores.sh");
        let store = [("store", "kubernetes"), ("store_namespace", "default"), ("KUBECONFIG", &*cluster)];
        storm("kubernetes", Fleet::start(PROGRAM, 8, &store, &[]).await, 200, &[Blow::Kill]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a2_eight_processes_over_nats_survive_kills() {
        let url = std::env::var("NATS_URL").expect("run by stores.sh");
        let store = [("store", "nats"), ("nats_url", &*url), ("nats_bucket", "processes")];
        storm("nats", Fleet::start(PROGRAM, 8, &store, &[]).await, 200, &[Blow::Kill]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a2_eight_processes_over_postgres_survive_kills() {
        let url = std::env::var("POSTGRES_URL").expect("run by stores.sh");
        let fleet = Fleet::start(PROGRAM, 8, &[("store", "postgres")], &[("etl-oauth-postgres-url", &*url)]).await;
        storm("postgres", fleet, 200, &[Blow::Kill]).await;
    }
}
