//! Spans to an OpenTelemetry collector, by OTLP over HTTP, where the environment names one.
//!
//! The variables are OpenTelemetry's own, and its crates read them. A collector that is slow or away
//! costs spans, which are counted in the log, and nobody's time.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use http::{Request, Response};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::{Builder, Runtime};

use super::{Failure, environment};

/// Each of them names a collector.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];
const DISABLED: &str = "OTEL_SDK_DISABLED";
const NAME: &str = "OTEL_SERVICE_NAME";
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an end waits for the last spans to be taken.
const LAST: Duration = Duration::from_secs(1);

/// Whether there is a collector.
pub(super) fn is_wanted() -> bool {
    let environment = environment();
    let has = |name: &str| {
        let found = environment.iter().find(|(known, _)| known == name);
        found
            .map(|(_, text)| text.as_str())
            .filter(|text| !text.is_empty())
    };
    let disabled = has(DISABLED).is_some_and(|text| text.eq_ignore_ascii_case("true"));
    !disabled && ENDPOINTS.into_iter().any(|name| has(name).is_some())
}

/// What sends spans, on a thread of its own.
pub(super) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Begins, where there is a collector.
    pub(super) fn begin() -> Result<Option<Self>, Failure> {
        if !is_wanted() {
            return Ok(None);
        }
        let wrong = |error: anyhow::Error| Failure::new(Failure::CONFIGURATION, error);
        let client = Client::new().map_err(wrong)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .build()
            .map_err(|error| wrong(error.into()))?;
        let resource = Resource::builder();
        let resource = if environment().iter().any(|(name, _)| name == NAME) {
            resource
        } else {
            resource.with_service_name(env!("CARGO_PKG_NAME"))
        };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Ok(Some(Self(provider)))
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.0.tracer(env!("CARGO_PKG_NAME"))
    }

    /// Sends what is left, if that does not take long.
    pub(super) fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last spans may not have been taken");
        }
    }
}

/// The HTTP of it: reqwest, as elsewhere, driven by the thread that sends.
struct Client {
    http: reqwest::Client,
    runtime: Runtime,
}

impl Client {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(TIMEOUT)
                .build()?,
            runtime: Builder::new_current_thread().enable_all().build()?,
        })
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.runtime.block_on(async {
            let request = reqwest::Request::try_from(request)?;
            let answer = self.http.execute(request).await?;
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            Ok(response)
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        // Whoever asks is a thread that has nothing else to do.
        Box::pin(ready(self.send(request)))
    }
}
