//! Spans as a collector gets them. This binary is its own function: started again with the variable `FUNCTION` it serves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test, which is to fail of a surprise")]

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, ExitCode, Stdio},
    sync::mpsc,
};

use axum::{
    Extension, Router,
    http::{StatusCode, uri::PathAndQuery},
    routing::get,
};
use libtest_mimic::{Arguments, Trial};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message as _;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

async fn handler() -> Result<Router, watchdog::BoxError> {
    let work = async || {
        tracing::info_span!("work", rows = 3).in_scope(|| tracing::info!(target: "mine", "an event"));
        (StatusCode::BAD_GATEWAY, Extension(PathAndQuery::from_static("/work/-")), "")
    };
    Ok(Router::new().route("/work/{token}", get(work)))
}

fn main() -> ExitCode {
    if env::var_os("FUNCTION").is_some() {
        return watchdog::main(handler);
    }
    let trial = Trial::test("spans_are_sent_before_the_process_ends", || {
        spans_are_sent_before_the_process_ends();
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

/// Takes one export, as a collector does.
fn collect(listener: &TcpListener) -> (String, ExportTraceServiceRequest) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        head += &line.to_lowercase();
        line.clear();
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    (head, ExportTraceServiceRequest::decode(&*body).unwrap())
}

fn attributes(all: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &KeyValue| match value.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    all.iter().map(|value| (value.key.as_str(), text(value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spans_are_sent_before_the_process_ends() {
    let collector = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let (sender, exports) = mpsc::channel();
    std::thread::spawn(move || sender.send(collect(&collector)));
    let mut process = Command::new(env::current_exe().unwrap())
        .env_clear()
        .envs([("FUNCTION", "1"), ("port", "0"), ("metrics_port", "0"), ("suppress_lock", "true")])
        .envs([("healthcheck_interval", "0s"), ("OPENFAAS_NAME", "resize"), ("RUST_LOG", "info")])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    let port: u16 = loop {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0);
        if let Some((_, port)) = line.split_once("Listening on port: ") {
            break port.trim().parse().unwrap();
        }
    };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    write!(
        stream,
        "GET /work/secret?secret=1 HTTP/1.1\r\nHost: fn\r\nX-Call-Id: id\r\ntraceparent: {traceparent}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    Command::new("kill").args(["-s", "TERM", &process.id().to_string()]).status().unwrap();
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(process.wait().unwrap().success(), "{rest}");
    // The fields of the call's span are not repeated in the log; those of the function's are there.
    assert!(rest.contains(" INFO mine: an event rows=3\n"), "{rest}");

    // All that is sent was sent when the process had ended.
    let (head, export) = exports.try_recv().expect(&rest);
    assert!(head.starts_with("post /v1/traces ") && head.contains("content-type: application/x-protobuf"), "{head}");
    let resource = &export.resource_spans[0];
    assert_eq!(attributes(&resource.resource.as_ref().unwrap().attributes)["service.name"], "resize");
    let spans: Vec<&Span> = resource.scope_spans.iter().flat_map(|scope| &scope.spans).collect();
    let named = |name: &str| *spans.iter().find(|span| span.name == name).expect(name);
    let (call, work) = (named("GET"), named("work"));
    assert_eq!((spans.len(), hex(&call.trace_id), hex(&call.parent_span_id)), (2, TRACE.into(), PARENT.into()));
    assert_eq!((&work.trace_id, &work.parent_span_id), (&call.trace_id, &call.span_id));
    assert_eq!((call.kind(), call.status.as_ref().unwrap().code()), (SpanKind::Server, SpanStatus::Error));
    let of_call = attributes(&call.attributes);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "502"),
        ("url.path", "/work/-"),
        ("faas.invocation_id", "id"),
    ] {
        assert_eq!(of_call[name], value, "{of_call:?}");
    }
    assert_eq!(attributes(&work.attributes)["rows"], "3");
    assert_eq!(work.events[0].name, "an event");
    assert!(!format!("{export:?}").contains("secret"));
}
