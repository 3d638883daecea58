//! One walk of faas-cli from login to remove, as it was recorded: what it asks, what the answers must be, and which
//! status its printed words speak of.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use reqwest::RequestBuilder;
use serde_json::Value;
use support::{Place, Running, until};

const RECORDED: &str = include_str!("recorded/scenario.json");

/// Whether `answer` has all that is in `expected`; lists have as many members.
fn holds(answer: &Value, expected: &Value) -> bool {
    match (answer, expected) {
        (Value::Object(answer), Value::Object(expected)) => {
            expected.iter().all(|(name, value)| answer.get(name).is_some_and(|found| holds(found, value)))
        }
        (Value::Array(answer), Value::Array(expected)) => {
            answer.len() == expected.len()
                && answer.iter().zip(expected).all(|(answer, expected)| holds(answer, expected))
        }
        (answer, expected) => answer == expected,
    }
}

fn request(running: &Running, step: &Value) -> RequestBuilder {
    let text = |key: &str| step[key].as_str().unwrap();
    let request = running.http.request(text("method").parse().unwrap(), running.at(text("target")));
    let request = match step["login"].as_str() {
        Some("admin") => request.basic_auth("admin", Some(&running.password)),
        Some("wrong") => request.basic_auth("admin", Some("wrong")),
        // What the CLI sends to a gateway that it has no login for.
        Some("bearer") => request.header("authorization", "Bearer "),
        _ => request,
    };
    match &step["body"] {
        Value::Null => request,
        Value::String(text) => request.body(text.clone()),
        body => request.json(body),
    }
}

/// The statuses that the CLI's words name: `202 Accepted`, `status code: 401`, `status: 409`.
fn statuses(printed: &str) -> Vec<u16> {
    let words: Vec<_> = printed.split(|c: char| c.is_whitespace() || c == ',').collect();
    let follows = |at: usize| ["Accepted", "Accepted."].contains(&words.get(at + 1).copied().unwrap_or_default());
    let named = |at: usize| at > 0 && ["code:", "status:"].contains(&words[at - 1]);
    words
        .iter()
        .enumerate()
        .filter(|(at, word)| word.len() == 3 && (follows(*at) || named(*at)))
        .filter_map(|(_, word)| word.parse().ok())
        .collect()
}

#[tokio::test]
async fn the_recorded_walk_goes_the_same_way() {
    // The seeded password is no part of the walk's list of secrets.
    let running = Place::new("  sample:\n    lang: none\n    image: sample\n").start(&["sample"]).await;
    running.write(reqwest::Method::DELETE, "/system/functions", &serde_json::json!({"functionName": "sample"})).await;
    let steps: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    for step in &steps {
        let case = step["case"].as_str().unwrap();
        if case == "ready function" {
            // The CLI asks until it is so.
            until(async || running.read("/system/function/walk").await["availableReplicas"] == 1).await;
        }
        let mut seen = Vec::new();
        for one in step["requests"].as_array().unwrap() {
            let answer = request(&running, one).send().await.unwrap();
            seen.push(answer.status().as_u16());
            let text = answer.text().await.unwrap();
            assert_eq!(*seen.last().unwrap(), one["status"].as_u64().unwrap() as u16, "{case}: {text}");
            match &one["answer"] {
                Value::Null => {}
                Value::String(expected) => assert_eq!(text, *expected, "{case}"),
                expected => {
                    let mut answer: Value = serde_json::from_str(&text).unwrap();
                    if let Value::Array(entries) = &mut answer {
                        entries.retain(|entry| entry["name"] != "basic-auth-password");
                    }
                    assert!(holds(&answer, expected), "{case}: {answer} has not {expected}");
                }
            }
        }
        for status in statuses(step["printed"].as_str().unwrap()) {
            assert!(seen.contains(&status), "{case}: the CLI speaks of {status}, the answers were {seen:?}");
        }
    }
    running.local.stop().await;
}

#[tokio::test]
async fn info_has_what_the_cli_panics_without() {
    let running = Place::new("  sample:\n    lang: none\n    image: sample\n").start(&["sample"]).await;
    let info = running.read("/system/info").await;
    assert!(info["version"]["release"].is_string() && info["provider"]["version"]["sha"].is_string(), "{info}");
    assert_eq!(info["provider"]["provider"], "faas-netes");
    running.local.stop().await;
}
