//! Goes through the steps of one case.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{compare::differs, message::Connection, subject::Subject};

/// `Err` tells each step that went another way.
pub(crate) fn run(case: &Value, difference: &Value, jwt: &Value, of_watchdog: Option<&str>) -> Result<(), String> {
    // of-watchdog asks nowhere else.
    let port = if of_watchdog.is_some() { 8000 } else { 0 };
    let issuer = case.get("oidc").map(|kind| super::oidc::serve(jwt, kind.as_str().unwrap_or("ok"), port));
    let mut subject = Subject::start(case, issuer.as_ref().map(|issuer| issuer.port), of_watchdog);
    if !difference["exit"].is_null() {
        return exit(&mut subject, difference);
    }
    let mut walk = Walk { subject, connections: HashMap::new(), methods: HashMap::new(), signalled: None, jwt };
    let mut found = Vec::new();
    for (number, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
        let instead = &difference["steps"][number.to_string()];
        if instead == "end" {
            break;
        }
        let observed = walk.step(step, &mut found, number);
        // What only a proxy with a child process does.
        let process = step["scope"] == "process" && of_watchdog.is_none();
        let mut expected = step["expect"].clone();
        if expected.is_null() || instead == "skip" || (process && instead.is_null()) {
            continue;
        }
        if difference["refusals"] == true {
            as_hyper_refuses(&mut expected);
        }
        merge(&mut expected, instead);
        if let Some(limit) = difference["limit"].as_str() {
            with_reason(&mut expected, limit);
        }
        fill_tokens(&mut expected, jwt);
        // How fast a megabyte of header is read says nothing of a contract.
        let ignore_times = step["time_from"] == "ignore" || case["scope"] == "http";
        if let Some(what) = differs(step["op"].as_str().expect("op"), &expected, &observed, ignore_times) {
            if step["flaky"] == true {
                continue;
            }
            found.push(format!("step {number} {}:\n    {what}", shown(step)));
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!("{}\n{}", case["note"].as_str().unwrap_or(""), found.join("\n")))
    }
}

/// A start that is refused, with a message that names what is wrong.
fn exit(subject: &mut Subject, difference: &Value) -> Result<(), String> {
    let observed = subject.exit(Instant::now(), Duration::from_secs(5));
    if observed["exit"] != difference["exit"] {
        return Err(format!("exit: expected {}, got {observed}", difference["exit"]));
    }
    let told = subject.log(".", false).to_string();
    let unnamed = difference["names"].as_array().into_iter().flatten().find(|name| {
        let name = name.as_str().expect("a name");
        !told.contains(name)
    });
    unnamed.map_or(Ok(()), |name| Err(format!("the message does not name {name}: {told}")))
}

/// An answer of the server's own to a message that it does not take: hyper gives it a date and no text.
fn as_hyper_refuses(expected: &mut Value) {
    let is_refusal = expected["framing"] == "until-close" && expected["headers"]["connection"] == "close";
    if let Some(answer) = expected.as_object_mut().filter(|_| is_refusal) {
        answer.insert("body".into(), json!(""));
        answer.insert("framing".into(), json!("content-length"));
        answer.insert("headers".into(), json!({"connection": "close", "content-length": "0", "date": "<http-date>"}));
        answer.remove("reason");
    }
}

/// A 504 says which limit was exceeded.
fn with_reason(expected: &mut Value, limit: &str) {
    if expected["status"] == 504 && expected["headers"]["x-openfaas-internal"] == "of-watchdog" {
        expected["body"] = json!(format!("the function did not answer within {limit}=<dur>\n"));
        expected["headers"]["content-length"] = json!("<n>");
        expected["headers"]["content-type"] = json!("text/plain; charset=utf-8");
    }
}

fn shown(step: &Value) -> String {
    let mut step = step.clone();
    if let Some(step) = step.as_object_mut() {
        step.remove("expect");
    }
    step.to_string().chars().take(300).collect()
}

/// Puts tokens where an expected value names them.
fn fill_tokens(value: &mut Value, jwt: &Value) {
    match value {
        Value::String(text) => {
            if let Some(name) = text.split("${token:").nth(1).and_then(|rest| rest.split('}').next()) {
                let token = jwt["tokens"][name]["jwt"].as_str().expect("a token of the record");
                *text = text.replace(&format!("${{token:{name}}}"), token);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| fill_tokens(value, jwt)),
        Value::Object(values) => values.values_mut().for_each(|value| fill_tokens(value, jwt)),
        _ => {}
    }
}

/// A JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        if !patch.is_null() {
            *target = patch.clone();
        }
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().expect("just made one");
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

struct Walk<'a> {
    subject: Subject,
    connections: HashMap<String, Connection>,
    methods: HashMap<String, String>,
    signalled: Option<Instant>,
    jwt: &'a Value,
}

impl Walk<'_> {
    fn step(&mut self, step: &Value, found: &mut Vec<String>, number: usize) -> Value {
        let name = step["conn"].as_str().unwrap_or("a").to_owned();
        let wait = Duration::from_secs_f64(step["timeout_s"].as_f64().unwrap_or(8.0));
        match step["op"].as_str().expect("op") {
            "http" => {
                self.send(step, &name);
                self.receive(step, &name, wait)
            }
            "send" => {
                self.send(step, &name);
                Value::Null
            }
            "recv" => self.receive(step, &name, wait),
            "raw" => {
                let wait = Duration::from_millis(step["ms"].as_u64().expect("ms"));
                self.connection(step, &name)
                    .map_or(json!({"raw": "", "conn": "closed"}), |connection| connection.raw(wait))
            }
            "eof" => self.connection(step, &name).map_or(json!({"conn": "closed", "time_s": 0}), |connection| {
                let from = if step["from"] == "now" { Instant::now() } else { connection.sent };
                connection.end(from, wait)
            }),
            "open" => {
                self.connections.remove(&name);
                let accepted = self.connection(step, &name).is_some();
                json!({"connect": if accepted { "accepted" } else { "refused" }})
            }
            "close" => {
                self.connections.remove(&name);
                Value::Null
            }
            "shut_wr" => {
                if let Some(connection) = self.connection(step, &name) {
                    connection.shut_write();
                }
                Value::Null
            }
            "sleep" => {
                match step["until_s"].as_f64() {
                    Some(until) => {
                        let from = self.signalled.unwrap_or(self.subject.started);
                        thread::sleep(
                            (from + Duration::from_secs_f64(until)).saturating_duration_since(Instant::now()),
                        );
                    }
                    None => thread::sleep(Duration::from_millis(step["ms"].as_u64().expect("ms"))),
                }
                Value::Null
            }
            "signal" => {
                self.subject.signal(step["sig"].as_str().expect("sig"));
                self.signalled.get_or_insert_with(Instant::now);
                Value::Null
            }
            "exit" => self.subject.exit(self.signalled.unwrap_or(self.subject.started), wait),
            "lock" => self.subject.lock(),
            "put_lock" => {
                self.subject.put_lock();
                Value::Null
            }
            "rm_lock" => self.subject.remove_lock(),
            "log" => self.log(step),
            "metrics" => self.metrics(step),
            "metrics_text" => self.metrics_text(),
            "listening" => self.subject.listening(),
            op => {
                found.push(format!("step {number}: unknown op {op}"));
                Value::Null
            }
        }
    }

    /// A line is written soon after what it tells of, but not before: waits for as many as are expected.
    fn log(&mut self, step: &Value) -> Value {
        let (what, is_sorted) = (step["match"].as_str().unwrap_or("."), step["sort"] == true);
        let expected = step["expect"]["lines"].as_array().map_or(0, Vec::len);
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            let observed = self.subject.log(what, is_sorted);
            let lines = observed["lines"].as_array().map_or(0, Vec::len);
            if lines >= expected || Instant::now() >= until || self.subject.has_ended() {
                return observed;
            }
        }
    }

    fn connection(&mut self, step: &Value, name: &str) -> Option<&mut Connection> {
        if !self.connections.contains_key(name) {
            let address = self.subject.address(step["port"].as_u64());
            let connection = Connection::open(address, step["rcvbuf"].as_u64().map(|size| size as usize)).ok()?;
            self.connections.insert(name.to_owned(), connection);
        }
        self.connections.get_mut(name)
    }

    fn send(&mut self, step: &Value, name: &str) {
        let token = step["token"].as_str().map(|token| &self.jwt["tokens"][token]["jwt"]);
        let token = token.and_then(Value::as_str).unwrap_or("").to_owned();
        let first = step["send"].as_str().or_else(|| step["send"][0].as_str()).unwrap_or("");
        self.methods.insert(name.to_owned(), first.split(' ').next().unwrap_or("").to_owned());
        let fills: HashMap<_, _> = ["${port}", "${upstream_port}", "${spare_port}", "${tmp}"]
            .map(|name| (name, self.subject.fill(name)))
            .into();
        let fill = |text: &str| {
            let mut text = text.replace("${token}", &token);
            for (name, value) in &fills {
                text = text.replace(name, value);
            }
            text
        };
        if let Some(connection) = self.connection(step, name) {
            connection.send(&step["send"], &fill);
        }
    }

    fn receive(&mut self, step: &Value, name: &str, wait: Duration) -> Value {
        let method = self.methods.get(name).cloned().unwrap_or_default();
        let method = step["method"].as_str().unwrap_or(&method).to_owned();
        let slow = step["slow_ms"].as_u64().map(Duration::from_millis);
        let stream = step["stream"] == true;
        let Some(connection) = self.connections.get_mut(name) else { return json!({"outcome": "refused"}) };
        connection.response(&method, wait, slow, stream)
    }

    fn scrape(&self) -> Value {
        let Ok(mut connection) = Connection::open(self.subject.address(Some(8081)), None) else { return Value::Null };
        connection.send(&json!("GET /metrics HTTP/1.1\r\nHost: fn\r\nConnection: close\r\n\r\n"), &str::to_owned);
        connection.response("GET", Duration::from_secs(5), None, false)
    }

    fn metrics(&self, step: &Value) -> Value {
        let what = regex_lite::Regex::new(step["match"].as_str().unwrap_or("^http_")).expect("a regular expression");
        let buckets = step["no_buckets"] == false;
        let answer = self.scrape();
        let mut samples: Vec<_> = answer["body"]
            .as_str()
            .unwrap_or("")
            .lines()
            .filter(|line| !line.starts_with('#') && what.is_match(line) && (buckets || !line.contains("_bucket")))
            .collect();
        samples.sort_by_key(|line| order(line));
        json!({"samples": samples})
    }

    fn metrics_text(&self) -> Value {
        let answer = self.scrape();
        let mut families: Vec<_> = answer["body"]
            .as_str()
            .unwrap_or("")
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .collect();
        families.sort_unstable();
        // Families of a language's runtime are told by their prefix.
        let mut others: Vec<_> = ["go_", "promhttp_"]
            .into_iter()
            .filter(|prefix| families.iter().any(|(name, _)| name.starts_with(prefix)))
            .map(|prefix| format!("{prefix}*"))
            .collect();
        families.retain(|(name, _)| !name.starts_with("go_") && !name.starts_with("promhttp_"));
        others.sort_unstable();
        let others = if others.is_empty() { Value::Null } else { json!(others) };
        json!({
            "status": answer["status"],
            "content_type": answer["headers"]["content-type"],
            "families": families,
            "other_families": others,
        })
    }
}

/// Families by name, then their samples in the order of Go's exposition: by label, `_sum` before `_count`.
fn order(line: &str) -> (String, String, u8) {
    let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
    let family = name.trim_end_matches("_sum").trim_end_matches("_count").trim_end_matches("_bucket");
    let labels = rest.rsplit_once(' ').map_or("", |(labels, _)| labels);
    let labels = labels.split("le=").next().unwrap_or("").trim_end_matches([',', '{']).to_owned();
    let kind = match name.strip_prefix(family) {
        Some("_sum") => 1,
        Some("_count") => 2,
        _ => 0,
    };
    (family.to_owned(), labels, kind)
}
