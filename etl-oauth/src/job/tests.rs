//! Jobs against an API on loopback.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Json, body::Body, response::IntoResponse};
use http::Request;
use jiff::SignedDuration;
use serde_json::{Value, json};

#[path = "../../keeper/src/api/tests/setting.rs"]
#[allow(dead_code, reason = "the client's own tests use all of it")]
mod setting;

use setting::Setting;

use super::*;
use token_keeper::{
    api::Facts,
    secrets::Secrets,
    store::{Key, Memory, Store},
};

const NOW: Timestamp = Timestamp::constant(1_795_262_400, 0);

fn context(setting: &Setting, store: &Arc<Store>, folder: &std::path::Path) -> Context {
    Context {
        api: setting.api.clone(),
        now: NOW,
        input: Bytes::new(),
        ledger: JobState::new(Arc::clone(store), &Key::default()),
        outlets: Delivery::new(Secrets::new(folder, ""), None, None).unwrap(),
        progress: Progress::default(),
        apis: Apis::default(),
    }
}

fn store() -> Arc<Store> {
    Arc::new(Store::Memory(Memory::default()))
}

fn path(request: &Request<Body>) -> &str {
    request.uri().path().trim_start_matches("/v1")
}

#[test]
fn every_job_has_the_name_that_it_is_listed_by() {
    for job in [Job::None, Job::Gumroad, Job::Strava, Job::X] {
        assert!(Job::NAMES.contains(&job.name()));
    }
}

#[tokio::test]
async fn a_job_of_ones_own_has_typed_input_and_output() {
    #[derive(Default, serde::Deserialize)]
    struct Wanted {
        word: Option<String>,
    }
    let s = Setting::new(Facts::default(), |_, request| Json(json!(request.uri().query())).into_response()).await;
    let own = Job::Own(Own::new(|api: Api, wanted: Wanted| async move {
        let answer: Value = api.get("/x").query("word", wanted.word.unwrap_or("<none>".into())).json().await?;
        Ok::<_, ApiError>(json!({ "asked": answer }))
    }));
    let folder = tempfile::tempdir().unwrap();
    let at = context(&s, &store(), folder.path());
    let outcome = own.run(at.clone()).await.unwrap();
    assert_eq!(outcome.json, json!({ "asked": "word=%3Cnone%3E" }));
    assert!(outcome.html.contains("word=%3Cnone%3E") && outcome.text.ends_with("}\n"));
    let outcome = own.run(Context { input: r#"{"word":"a&b"}"#.into(), ..at.clone() }).await.unwrap();
    assert_eq!(outcome.json["asked"], "word=a%26b");
    let outcome = own.run(Context { input: "word=a%26b&x=".into(), ..at.clone() }).await.unwrap();
    assert_eq!(outcome.json["asked"], "word=a%26b", "a form");
    for (wrong, words) in [("{", "EOF"), (r#"{"word":7}"#, "word: invalid type: integer"), ("{} {}", "trailing")] {
        let err = own.run(Context { input: wrong.into(), ..at.clone() }).await.unwrap_err();
        assert_eq!((err.code(), err.status()), ("bad_input", StatusCode::BAD_REQUEST));
        assert!(err.to_string().contains(words), "{err}");
    }
}

#[tokio::test]
async fn a_job_of_ones_own_remembers_and_its_errors_keep_their_meaning() {
    async fn counting(context: Context, (): ()) -> Result<u64, crate::BoxError> {
        let mut entry = context.ledger.read::<u64>("runs").await?;
        entry.notes += 1;
        if entry.notes > 2 {
            context.api.get("/x").json::<Value>().await?;
        }
        Ok(context.ledger.write("runs", entry).await?.notes)
    }
    let refused = |_, _| (StatusCode::FORBIDDEN, "the marker of the account").into_response();
    let s = Setting::new(Facts::default(), refused).await;
    let (own, folder, store) = (Job::Own(Own::new(counting)), tempfile::tempdir().unwrap(), store());
    for count in [1, 2] {
        assert_eq!(own.run(context(&s, &store, folder.path())).await.unwrap().json, count);
    }
    let err = own.run(context(&s, &store, folder.path())).await.unwrap_err();
    assert!(matches!(&err, JobError::Api(ApiError::Status { .. })), "{err:?}");
    assert_eq!(err.to_string(), "the API answered 403 to GET /x: the marker of the account");
    assert_eq!(err.for_strangers(), "the API answered 403 to GET /x", "the API's words are not for strangers");
    let token = KeeperError::Disabled { account: "default".into() };
    assert_eq!(JobError::from(crate::BoxError::from(token)).status(), StatusCode::CONFLICT);
    let overtaken = JobError::from(crate::BoxError::from(JobError::Overtaken));
    assert_eq!(overtaken.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(JobError::from(crate::BoxError::from("my words")).to_string(), "my words");
}

#[tokio::test]
async fn posts_are_read_once_in_a_while_whatever_process_runs_the_job() {
    let s = Setting::new(Facts::default(), |_, request| match path(&request) {
        "/2/users/me" => Json(json!({ "data": { "id": "7", "username": "<me>" } })).into_response(),
        "/2/users/7/tweets" => Json(json!({ "data": [{ "id": "1", "text": "<b>hello" }] })).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    })
    .await;
    let (folder, store) = (tempfile::tempdir().unwrap(), store());
    for (minutes, calls) in [(0, 2), (1, 2), (14, 2), (16, 3), (17, 3), (24 * 60 + 1, 5)] {
        // A context of its own each time, as after a restart.
        let at = Context { now: NOW + SignedDuration::from_mins(minutes), ..context(&s, &store, folder.path()) };
        let outcome = Job::X.run(at).await.unwrap();
        assert_eq!(outcome.json["posts"][0]["text"], "<b>hello");
        assert!(outcome.html.contains("&#60;me&#62;") && !outcome.html.contains("<b>"), "{}", outcome.html);
        assert_eq!(s.calls().len(), calls, "after {minutes} minutes");
    }
}

#[tokio::test]
async fn a_pause_that_the_api_asks_for_outlives_the_process() {
    let s = Setting::new(Facts::default(), |_, _| {
        (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "86400")]).into_response()
    })
    .await;
    let (folder, store) = (tempfile::tempdir().unwrap(), store());
    assert!(Job::X.run(context(&s, &store, folder.path())).await.is_err());
    let later = Context { now: NOW + SignedDuration::from_hours(23), ..context(&s, &store, folder.path()) };
    Job::X.run(later).await.unwrap();
    assert_eq!(s.calls().len(), 1);
}

#[tokio::test]
async fn a_summary_has_what_is_public_and_no_place() {
    let s = Setting::new(Facts::default(), |_, request| match path(&request) {
        "/v3/athlete" => Json(json!({ "id": 9 })).into_response(),
        "/v3/athletes/9/stats" => Json(json!({ "all_run_totals": { "count": 4, "distance": 2.5 } })).into_response(),
        "/v3/athlete/activities" => {
            let ride = |name, private, visibility| {
                json!({ "name": name, "sport_type": "Ride", "start_date": "2026-11-20T07:00:00Z", "distance": 1000.0,
                    "moving_time": 60, "private": private, "visibility": visibility, "start_latlng": [1.0, 2.0], "map": { "id": "m" } })
            };
            let rides = [
                ride("open", false, Some("everyone")),
                ride("unsaid", false, None),
                ride("hidden", true, Some("only_me")),
                ride("hidden from most", false, Some("followers_only")),
            ];
            Json(json!(rides)).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    })
    .await;
    let (folder, store) = (tempfile::tempdir().unwrap(), store());
    let at = context(&s, &store, folder.path());
    let outcome = Job::Strava.run(at.clone()).await.unwrap();
    let shown = outcome.json.to_string();
    assert!(
        shown.contains("open") && shown.contains("unsaid") && !shown.contains("hidden") && !shown.contains("latlng"),
        "{shown}"
    );
    let read = at.ledger.read::<strava::Summary>(strava::NOTES).await.unwrap().notes;
    assert_eq!((read.all.run.count, read.updated_at), (4, Some(NOW)));
    assert_eq!(serde_json::to_value(read).unwrap(), outcome.json);
}

/// A webhook that refuses the first `failures` posts, and the bodies of the others.
async fn webhook(failures: usize) -> (String, Arc<Mutex<Vec<Value>>>) {
    let posts = Arc::<Mutex<Vec<Value>>>::default();
    let (seen, fail) = (Arc::clone(&posts), AtomicUsize::new(failures));
    let take = Arc::new(move |body: Value| {
        let failing = fail.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if !failing {
            seen.lock().unwrap().push(body);
        }
        if failing { StatusCode::BAD_GATEWAY } else { StatusCode::OK }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook/marker", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(async move |Json(body): Json<Value>| take(body));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, posts)
}

/// An API with one sale.
async fn seller() -> Setting {
    Setting::new(Facts::default(), |_, _| {
        let sale =
            json!({ "created_at": "2026-11-20T08:00:00Z", "price": 2499, "currency_symbol": "$", "country": "<Peru>" });
        Json(json!({ "success": true, "sales": [sale] })).into_response()
    })
    .await
}

#[cfg(feature = "mail")]
#[tokio::test]
async fn an_outlet_that_fails_does_not_bring_the_other_its_report_again() {
    let ((url, posts), s, store) = (webhook(0).await, seller().await, store());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("etl-oauth-notify-url"), url).unwrap();
    // No server listens there.
    std::fs::write(folder.path().join("etl-oauth-smtp-url"), "smtp://127.0.0.1:1").unwrap();
    let outlets = Delivery::new(Secrets::new(folder.path(), ""), Some("ann@example.com"), None).unwrap();
    for hours in [0, 1] {
        let at = context(&s, &store, folder.path());
        let at = Context { now: NOW + SignedDuration::from_hours(hours), outlets: outlets.clone(), ..at };
        let message = || Message { subject: "s".into(), text: "t".into(), html: "h".into() };
        let err = outlets.weekly(&at.ledger, at.now, message).await.unwrap_err();
        assert!(err.to_string().contains("etl-oauth-smtp-url"), "{err}");
        Job::Gumroad.run(at).await.unwrap();
        assert_eq!(posts.lock().unwrap().len(), 1, "after {hours} hours");
    }
}

#[tokio::test]
async fn the_report_goes_out_once_a_week_and_again_where_it_failed() {
    let ((url, posts), s, store) = (webhook(1).await, seller().await, store());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("etl-oauth-notify-url"), url).unwrap();
    // It fails the first time, and the job does not.
    for (hours, sent) in [(0, 0), (1, 1), (24, 1), (6 * 24, 1), (7 * 24 + 1, 2)] {
        let at = Context { now: NOW + SignedDuration::from_hours(hours), ..context(&s, &store, folder.path()) };
        Job::Gumroad.run(at).await.unwrap();
        assert_eq!(posts.lock().unwrap().len(), sent, "after {hours} hours");
    }
    let first = posts.lock().unwrap()[0].clone();
    assert!(first["text"].as_str().unwrap().contains("&lt;Peru&gt;: 24.99 USD"), "{first}");
    assert!(first["content"].as_str().unwrap().contains("Week before"));
    assert!(first["html"].as_str().unwrap().contains("<table") && !first["html"].as_str().unwrap().contains("<Peru>"));
}

const PLAN: &str = r#"
[sink]
kind = "folder"
path = "FOLDER"

[[resource]]
name = "things"
path = "/things"
records = "d"
key = "id"
batch = 2
cursor = { field = "at", parameter = "since" }
paging = { style = "offset", parameter = "skip", size = 2, records = "d" }
"#;

/// The lines of all files, in the order of their names.
fn lines(folder: &std::path::Path) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(folder.join("things")) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap()).collect()
}

/// Records 0 to `count`, two of each moment, from the wanted moment on, the moment itself included.
fn things(count: u64, request: &Request<Body>) -> axum::response::Response {
    let query: std::collections::BTreeMap<String, u64> = axum::extract::Query::try_from_uri(request.uri()).unwrap().0;
    let wanted = |name: &str| query.get(name).copied().unwrap_or(0);
    let all = (0..count).filter(|id| id / 2 >= wanted("since"));
    let page: Vec<Value> = all
        .skip(usize::try_from(wanted("skip")).unwrap())
        .take(2)
        .map(|id| json!({ "id": id, "at": id / 2 }))
        .collect();
    Json(json!({ "d": page })).into_response()
}

#[tokio::test]
async fn each_run_copies_what_is_new_although_the_api_gives_the_last_moment_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&count);
    let s = Setting::new(Facts::default(), move |_, request| things(now.load(Ordering::SeqCst) as u64, &request)).await;
    let (folder, store) = (tempfile::tempdir().unwrap(), store());
    let plan = extract::Plan::read(&PLAN.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
    let job = Job::Extract(plan.into());
    for (there, new) in [(0, 0), (5, 5), (5, 0), (6, 1), (11, 5), (12, 1), (12, 0)] {
        count.store(there, Ordering::SeqCst);
        let at = context(&s, &store, folder.path());
        let outcome = job.run(at.clone()).await.unwrap();
        assert_eq!(outcome.json["copied"], json!({ "things": new }), "of {there}");
        assert_eq!(outcome.json["report"]["things"]["records"], new);
        assert_eq!(lines(folder.path()), (0..there as u64).collect::<Vec<_>>());
        assert!(at.progress.of("default")["things"].done);
    }
}

#[tokio::test]
async fn a_run_that_broke_anywhere_is_gone_on_with_without_gap_or_duplicate() {
    let fail_at = Arc::new(AtomicUsize::new(usize::MAX));
    let fail = Arc::clone(&fail_at);
    let s = Setting::new(Facts::default(), move |count, request| {
        if count == fail.load(Ordering::SeqCst) { StatusCode::NOT_FOUND.into_response() } else { things(9, &request) }
    })
    .await;
    for broken in 1..=5 {
        let memory = Memory::default();
        let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::Memory(memory.clone())));
        let plan = extract::Plan::read(&PLAN.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
        let job = Job::Extract(plan.into());
        // The API fails with one page, and then a write of the ledger that follows a part fails, too.
        fail_at.store(s.calls().len() + broken, Ordering::SeqCst);
        assert!(job.run(context(&s, &store, folder.path())).await.is_err());
        fail_at.store(usize::MAX, Ordering::SeqCst);
        memory.lose_answer(1);
        let second = job.run(context(&s, &store, folder.path())).await;
        assert!(second.is_err(), "an answer was lost");
        job.run(context(&s, &store, folder.path())).await.unwrap();
        assert_eq!(lines(folder.path()), (0..9).collect::<Vec<_>>(), "broken at page {broken}");
    }
}

#[tokio::test]
async fn runs_side_by_side_take_turns_and_a_webhook_gets_each_batch_once() {
    let posts = Arc::<Mutex<Vec<(String, String)>>>::default();
    let seen = Arc::clone(&posts);
    let take = move |headers: http::HeaderMap, body: String| {
        let name = headers["idempotency-key"].to_str().unwrap().to_owned();
        seen.lock().unwrap().push((name, body));
        // Slow, so that the other run would be there meanwhile.
        async { tokio::time::sleep(std::time::Duration::from_millis(20)).await }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(take)).await });
    let s = Setting::new(Facts::default(), |_, request| things(9, &request)).await;
    let (memory, folder) = (Memory::default(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("etl-oauth-sink-url"), url).unwrap();
    let plan = PLAN.replace("kind = \"folder\"\npath = \"FOLDER\"", "kind = \"webhook\"");
    let job = Job::Extract(extract::Plan::read(&plan).unwrap().into());
    // Two replicas, and two runs in each of them.
    let replicas = [0, 1].map(|_| Arc::new(Store::Memory(memory.clone())));
    let run = |store| job.run(context(&s, store, folder.path()));
    let (a, b, c, d) = tokio::join!(run(&replicas[0]), run(&replicas[0]), run(&replicas[1]), run(&replicas[1]));
    let copied: Vec<_> = [a, b, c, d].map(|run| run.unwrap().json["copied"]["things"].as_u64().unwrap()).into();
    assert_eq!((copied.iter().sum::<u64>(), copied.iter().max()), (9, Some(&9)), "one did it all: {copied:?}");
    let posts = posts.lock().unwrap();
    let names: std::collections::BTreeSet<_> = posts.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), posts.len(), "{posts:?}");
    assert_eq!(posts.iter().map(|(_, body)| body.lines().count()).sum::<usize>(), 9);
}
