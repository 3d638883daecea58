//! Whether what was observed is what was expected.

use regex_lite::Regex;
use serde_json::Value;

/// `None`, or what is different.
pub(crate) fn differs(op: &str, expected: &Value, observed: &Value, ignore_times: bool) -> Option<String> {
    let expected_map = expected.as_object()?;
    let mut found = Vec::new();
    for (key, want) in expected_map {
        let got = &observed[key.as_str()];
        let same = match (op, key.as_str()) {
            (_, "time_s" | "end_s" | "waited_s") if ignore_times => true,
            (_, "time_s" | "end_s") => time(want.as_f64(), got.as_f64()),
            (_, "waited_s") => true,
            (_, "headers") => headers(want, got),
            (_, "json") => body_json(want, got),
            (_, "body") if want["cut"] == true => true,
            (_, "body") if want.is_object() => want["len"] == observed["len"] && want["sha256"] == observed["sha256"],
            (_, "body") => matches(want, got),
            (_, "pieces") => pieces(want, got),
            ("log", "lines") | ("metrics", "samples") => list(want, got),
            _ => matches(want, got),
        };
        if !same {
            found.push(format!("{key}: expected {want}, got {}", shorten(got)));
        }
    }
    // What the record only mentions when it is unusual.
    for (key, usual) in [("version", "HTTP/1.1"), ("complete", "true")] {
        if !expected_map.contains_key(key) && expected_map.contains_key("status") && !observed[key].is_null() {
            let got = observed[key].as_str().map_or_else(|| observed[key].to_string(), str::to_owned);
            if got != usual {
                found.push(format!("{key}: expected {usual}, got {got}"));
            }
        }
    }
    for key in ["interim", "trailers", "outcome"] {
        if !expected_map.contains_key(key) && !observed[key].is_null() {
            found.push(format!("{key}: expected none, got {}", observed[key]));
        }
    }
    (!found.is_empty()).then(|| found.join("\n    "))
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(1200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A busy machine makes things late, but never early.
fn time(want: Option<f64>, got: Option<f64>) -> bool {
    match (want, got) {
        (Some(want), Some(got)) => got > want - 0.25 - want * 0.1 && got < want + 0.9 + want * 0.1,
        (want, got) => want == got,
    }
}

fn headers(want: &Value, got: &Value) -> bool {
    let (Some(want), Some(got)) = (want.as_object(), got.as_object()) else { return false };
    want.len() == got.len() && want.iter().all(|(name, want)| got.get(name).is_some_and(|got| matches(want, got)))
}

/// The connection's own headers of `/echo` are not part of the record.
fn body_json(want: &Value, got: &Value) -> bool {
    let mut got = got.clone();
    if let Some(headers) = got.get_mut("headers").and_then(Value::as_object_mut) {
        for name in ["content-length", "transfer-encoding"] {
            headers.remove(name);
        }
        // Made for a call that came without one.
        if want["headers"]["x-call-id"].is_null() {
            headers.remove("x-call-id");
        }
        let proxy = [("user-agent", "Go-http-client/1.1"), ("accept-encoding", "gzip")];
        for (name, value) in proxy {
            if want["headers"][name].is_null() && headers.get(name).is_some_and(|got| got[0] == value) {
                headers.remove(name);
            }
        }
        let of_upstream = |host: &Value| host[0].as_str().is_some_and(|host| host.starts_with("127.0.0.1:"));
        if want["headers"]["host"].is_null() && headers.get("host").is_some_and(of_upstream) {
            headers.remove("host");
        }
    }
    matches(want, &got)
}

fn pieces(want: &Value, got: &Value) -> bool {
    let (Some(want), Some(got)) = (want.as_array(), got.as_array()) else { return false };
    want.len() == got.len()
        && want.iter().zip(got).all(|(want, got)| time(want[0].as_f64(), got[0].as_f64()) && want[1] == got[1])
}

fn list(want: &Value, got: &Value) -> bool {
    let (Some(want), Some(got)) = (want.as_array(), got.as_array()) else { return false };
    want.len() == got.len() && want.iter().zip(got).all(|(want, got)| matches(want, got))
}

/// Equal, where a `<…>` of the record stands for a value that varies.
pub(crate) fn matches(want: &Value, got: &Value) -> bool {
    match (want, got) {
        (Value::String(want), Value::String(got)) if want.contains('<') => pattern(want).is_match(got),
        (Value::Array(want), Value::Array(got)) => {
            want.len() == got.len() && want.iter().zip(got).all(|(want, got)| matches(want, got))
        }
        (Value::Object(want), Value::Object(got)) => {
            want.len() == got.len() && want.iter().all(|(key, want)| got.get(key).is_some_and(|got| matches(want, got)))
        }
        _ => want == got,
    }
}

fn pattern(want: &str) -> Regex {
    const STANDS_FOR: [(&str, &str); 10] = [
        ("<http-date>", r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"),
        ("<seconds, 6 decimals>", r"\d+\.\d{6}"),
        ("<seconds>", r"[0-9.e-]+"),
        ("<secs4>", r"\d+\.\d{4}"),
        ("<ts>", r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"),
        ("<length of the JSON>", r"\d+"),
        ("<length of the body>", r"\d+"),
        ("<varies>", r".*"),
        ("<n>", r"\d+"),
        ("<dur>", r"[0-9.hmsµn]+"),
    ];
    let mut pattern = regex_lite::escape(want);
    for (name, stands_for) in STANDS_FOR {
        pattern = pattern.replace(&regex_lite::escape(name), stands_for);
    }
    Regex::new(&format!("^(?s:{pattern})$")).expect("an escaped pattern")
}
