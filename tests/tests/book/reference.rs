//! The reference pages hold all that the code has, and nothing else.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use etl_oauth::config::{Config, Retriever};
use etl_oauth::job::Job;
use jiff::Timestamp;
use serde_json::Value;
use token_keeper::provider::{Definition, Grant, Overrides, Provider};
use token_keeper::renewal::Policy;
use token_keeper::token::{Failure, FailureKind, Record};

use crate::source::{arguments, calls, code, current_part, defined, files, literal, literals, read, same};

const FOLDER: &str = "docs/src/reference";

/// All variables that the function asks for, whatever it is configured to be.
fn variables() -> BTreeSet<String> {
    let asked = RefCell::new(BTreeSet::new());
    let ask = |fixed: &[(&str, &str)]| {
        let get = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            fixed.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let _ = (Config::read(get), Retriever::read(get));
    };
    for (grant, _) in Grant::NAMES {
        ask(&[("provider", "custom"), ("grant", grant)]);
    }
    for job in Job::NAMES {
        ask(&[("provider", "custom"), ("job", job)]);
    }
    for auth in ["none", "secret", "hmac", "jwt", "openfaas", "public_key"] {
        ask(&[("provider", "custom"), ("invoke_auth", auth)]);
    }
    ask(&[("record_of", "another")]);
    asked.into_inner()
}

#[test]
fn every_variable_is_in_the_configuration_and_no_other() {
    let mut page = defined(&read(&format!("{FOLDER}/configuration.md")));
    // Named by the definition, not by the code.
    assert!(page.remove("provider_<name>"));
    same("configuration.md", &page, &variables());
}

#[test]
fn every_secret_is_in_the_reference_and_no_other() {
    let code = code();
    let cookies = ["etl-oauth-form", "etl-oauth-done", "etl-oauth-notice", "etl-oauth-session", "etl-oauth-mine"];
    let is_name =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let begins = |text: &str| {
        ["oauth2-", "etl-oauth-", "basic-auth-", "api-"]
            .iter()
            .any(|head| text.len() > head.len() && text.starts_with(head))
    };
    let named = literals(&code).into_iter().filter(|text| begins(text) && is_name(text));
    let named = named.filter(|text| !cookies.contains(text) && !text.ends_with('-')).map(str::to_owned).collect();
    same("secrets.md", &defined(&read(&format!("{FOLDER}/secrets.md"))), &named);
}

#[test]
fn every_route_is_in_the_reference_as_the_function_describes_it() {
    let description =
        files("etl-oauth", "json").into_iter().find(|path| path.ends_with("routes/openapi.json")).unwrap();
    let description: Value = serde_json::from_str(&std::fs::read_to_string(description).unwrap()).unwrap();
    let mut table = String::from("| route | method | what it does | statuses |\n| --- | --- | --- | --- |\n");
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let Some(summary) = operation["summary"].as_str() else { continue };
            let mut statuses: Vec<_> = operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
            statuses.sort_unstable();
            let statuses = statuses.join(" ").replace("default", "the API's");
            writeln!(table, "| `{path}` | {} | {summary} | {statuses} |", method.to_uppercase()).unwrap();
        }
    }
    current_part(&format!("{FOLDER}/routes.md"), "routes", &table);
}

#[test]
fn every_metric_is_in_the_reference_with_its_labels() {
    let code = code();
    let mut metrics: BTreeMap<&str, (&str, BTreeSet<&str>, Option<&str>)> = BTreeMap::new();
    for kind in ["counter", "gauge", "histogram"] {
        for call in calls(&code, kind) {
            let arguments = arguments(call);
            let Some(name) = arguments.first().and_then(|argument| literal(argument)) else { continue };
            let metric = metrics.entry(name).or_insert((kind, BTreeSet::new(), None));
            metric.1.extend(arguments.iter().skip(1).filter_map(|argument| literal(argument.split_once("=>")?.0)));
        }
        for call in calls(&code, &format!("describe_{kind}")) {
            let arguments = arguments(call);
            let name = arguments.first().and_then(|argument| literal(argument)).unwrap();
            let help = arguments.last().and_then(|argument| literal(argument));
            metrics.entry(name).or_insert((kind, BTreeSet::new(), None)).2 = help;
        }
    }
    assert!(metrics.len() >= 10, "the code has more metrics than {metrics:?}");
    let mut table = String::from("| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n");
    for (name, (kind, labels, help)) in metrics {
        let mut labels: BTreeSet<_> = labels;
        // Set in a loop, with labels that are made before it.
        if name.contains("account_state") {
            labels.extend(["account", "state"]);
        } else if name.contains("expiry_timestamp") {
            labels.insert("account");
        }
        let labels: Vec<_> = labels.into_iter().map(|label| format!("`{label}`")).collect();
        let help = help.unwrap_or_else(|| panic!("{name} is described nowhere")).replace('|', "\\|");
        writeln!(table, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
    current_part(&format!("{FOLDER}/metrics.md"), "metrics", &table);
}

/// Every event with its level and its fields, as the macros have them.
fn events() -> BTreeMap<String, (BTreeSet<&'static str>, BTreeSet<String>)> {
    let code = code();
    let mut events: BTreeMap<String, (BTreeSet<_>, BTreeSet<_>)> = BTreeMap::new();
    for level in ["error", "warn", "info"] {
        for call in calls(&code, level) {
            let arguments = arguments(call);
            let Some(message) = arguments.iter().rev().find_map(|argument| literal(argument)) else { continue };
            let event = events.entry(message.replace("\\\n", "")).or_default();
            event.0.insert(level);
            event.1.extend(arguments.iter().filter(|argument| literal(argument).is_none()).filter_map(|argument| {
                let name = argument.split(" = ").next()?.trim_start_matches(['%', '?']);
                let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                is_name.then(|| name.to_owned())
            }));
        }
    }
    events
}

#[test]
fn every_event_is_in_the_reference_with_its_level_and_fields() {
    let events = events();
    assert!(events.len() >= 30, "the code logs more than {events:?}");
    let mut table = String::from("| event | level | fields |\n| --- | --- | --- |\n");
    for (message, (levels, fields)) in &events {
        let fields: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
        let levels: Vec<_> = levels.iter().copied().collect();
        writeln!(table, "| `{message}` | {} | {} |", levels.join(", "), fields.join(", ")).unwrap();
    }
    let page = format!("{FOLDER}/log-events.md");
    current_part(&page, "events", &table);
    // The promised ones are explained above the list, each in a row of its own.
    let text = read(&page);
    let promised = defined(text.split("<!-- events").next().unwrap());
    assert!(promised.len() >= 10, "{promised:?}");
    for event in promised {
        assert!(events.contains_key(&event), "{page} promises {event:?}, which the code does not log");
    }
}

#[test]
fn every_error_code_is_in_the_reference_and_no_other() {
    let code = code();
    let mut codes: BTreeSet<String> = FailureKind::ALL.iter().map(|class| class.as_str().to_owned()).collect();
    for (at, head) in code.match_indices("problem(") {
        let argument = code[at + head.len()..].trim_start();
        if let Some(text) = argument.strip_prefix('"') {
            codes.insert(text.split('"').next().unwrap().to_owned());
        }
    }
    codes.insert(token_keeper::renewal::RECORD_DAMAGED.to_owned());
    // Pairs of a name and a title that a `match` chooses between.
    for (at, _) in code.match_indices('(') {
        let mut words = code[at + 1..].trim_start().splitn(3, '"');
        let (before, name, after) = (words.next(), words.next(), words.next());
        let is_title = after.and_then(|after| after.strip_prefix(',')).is_some_and(|after| {
            let title = after.trim_start().strip_prefix('"').and_then(|title| title.split('"').next());
            title.is_some_and(|title| title.starts_with(|c: char| c.is_ascii_uppercase()) && title.contains(' '))
        });
        if let (Some(""), Some(name), true) = (before, name, is_title)
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            && !name.starts_with("etl_oauth")
        {
            codes.insert(name.to_owned());
        }
    }
    // `fn code(&self) -> &'static str`: each arm gives a name.
    for (at, _) in code.match_indices("fn code(&self) -> &'static str {") {
        let body = code[at..].split("\n    }\n").next().unwrap();
        codes.extend(
            body.lines()
                .filter_map(|line| literal(line.rsplit_once("=> ")?.1.trim_end_matches(',')))
                .map(str::to_owned),
        );
    }
    // In the JSON of a run that found no authorised account.
    codes.extend(
        code.match_indices("\"error\": \"")
            .map(|(at, head)| code[at + head.len()..].split('"').next().unwrap().to_owned()),
    );
    same("error-codes.md", &defined(&read(&format!("{FOLDER}/error-codes.md"))), &codes);
}

#[test]
fn the_table_of_failures_is_what_the_code_does() {
    let mut table = String::from(
        "| class | waits before the next try | needs a person | what the function advises |\n| --- | --- | --- | --- |\n",
    );
    let definition = Definition { token_url: Some("https://p.example/".into()), ..Definition::default() };
    let policy = Policy::of(&Provider::new("custom", definition, Overrides::default()).unwrap());
    // The pause after so many failures in a row, without jitter.
    let pause = |class, failures| {
        let mut record = Record::default();
        record.health.failures = failures;
        let health = policy.after_failure(&record, &Failure::new(class, "for the book"), Timestamp::UNIX_EPOCH, 0.0);
        Duration::from_secs(health.next_try_at.unwrap().as_second().unsigned_abs())
    };
    for class in FailureKind::ALL {
        let (first, last) = (pause(class, 0), pause(class, 100));
        let wait = if class.needs_person() {
            "no try".to_owned()
        } else {
            format!("{} s to {} s", first.as_secs(), last.as_secs())
        };
        let person = if class.needs_person() { "yes" } else { "no" };
        writeln!(table, "| [`{class}`](failures/{class}.md) | {wait} | {person} | {} |", class.next_step()).unwrap();
    }
    current_part("docs/src/runbook/README.md", "failures", &table);
}
