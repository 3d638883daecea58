//! OpenTelemetry: spans of calls and the function's own, sent by OTLP. In builds with the feature `otel`.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::{global, propagation::TextMapPropagator as _, trace::TracerProvider as _};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::runtime::Handle;
use tracing::{Instrument as _, Span, field::Empty, info_span};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::{Layer, Registry, filter::LevelFilter};

use crate::{
    BoxError, Config, Function,
    access_log::AccessRecord,
    body::{Body, Progress},
    framing::Marks,
    invocation::{self, with_causes},
    response::ResponseBody,
    service::CALL_ID,
};

/// The target of calls' spans. The log leaves them out: it has a line for each call.
pub(crate) const TARGET: &str = "otel_call";

/// Sends what is left when it is shut down.
pub(crate) struct Otel(SdkTracerProvider);

/// The layer that makes spans. `None` where no collector is named, or `OTEL_SDK_DISABLED` is `true`.
pub(crate) type Spans = Option<Box<dyn Layer<Registry> + Send + Sync>>;

/// Begins to send spans to where `OTEL_EXPORTER_OTLP_ENDPOINT` says, from tasks of `runtime`.
///
/// # Errors
/// A variable `OTEL_*` is malformed, or there is no TLS.
pub(crate) fn start(config: &Config, runtime: &Handle) -> Result<(Spans, Option<Otel>), BoxError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let endpoint = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let is_off = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    // The standard's default, this container's own port 4318, would have every export fail.
    if endpoint.is_none() || is_off {
        return Ok((None, None));
    }
    let client = Client { client: reqwest::Client::builder().no_proxy().build()?, runtime: runtime.clone() };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build()?;
    let is_named = variable("OTEL_SERVICE_NAME").is_some()
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|attributes| attributes.contains("service.name="));
    let resource = match &config.function {
        Some(function) if !is_named => Resource::builder().with_service_name(function.clone()),
        _ => Resource::builder(),
    };
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    // So that a function that uses the API of OpenTelemetry itself has its spans sent, too.
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(provider.clone());
    let layer: OpenTelemetryLayer<Registry, SdkTracer> =
        tracing_opentelemetry::layer().with_tracer(provider.tracer("watchdog"));
    Ok((Some(layer.with_filter(LevelFilter::INFO).boxed()), Some(Otel(provider))))
}

impl Otel {
    /// Sends what is left, for some seconds at most. Not to be called from a task.
    pub(crate) fn shutdown(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(target: "watchdog", "spans were lost, OTEL_EXPORTER_OTLP_ENDPOINT does not take them: {}", with_causes(&error));
        }
    }
}

/// Calls the function within a span, which ends when the answer is written.
pub(crate) async fn invoke<F: Function>(
    function: F,
    request: Request<Body>,
    progress: Progress,
    marks: Marks,
    record: &mut AccessRecord,
) -> Response<ResponseBody<F::Body>> {
    let span = span(&request);
    record.span = Some(span.clone());
    let response = invocation::invoke(function, request, progress, marks, record).instrument(span.clone()).await;
    // Known now: a function may name another one in its place, as for the access log.
    span.record("url.path", record.path());
    span.record("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

/// A span by OpenTelemetry's conventions for HTTP servers and FaaS, the child of the caller's.
fn span<B>(request: &Request<B>) -> Span {
    let method = request.method().as_str();
    let span = info_span!(
        target: TARGET,
        "call",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.response.status_code = Empty,
        url.path = Empty,
        faas.trigger = "http",
        faas.invocation_id = request.headers().get(CALL_ID).and_then(|id| id.to_str().ok()),
    );
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
    // Fails only where the span is not made: without a layer, or when its level is off.
    let _ = span.set_parent(parent);
    span
}

/// The exporter has a thread of its own, on which no socket works.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, request) = (self.client.clone(), request.try_into()?);
        let sent = self.runtime.spawn(async move {
            let response = client.execute(request).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let mut whole = Response::new(response.bytes().await?);
            (*whole.status_mut(), *whole.headers_mut()) = (status, headers);
            Ok::<_, reqwest::Error>(whole)
        });
        Ok(sent.await?.map_err(reqwest::Error::without_url)?)
    }
}
