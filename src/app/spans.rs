//! What became of a request, told to OpenTelemetry: one span each, in the trace of whoever asked.
//!
//! Decides what a span is called and holds: nothing that a log line would not, no path, no query. Who
//! takes it is for others; ending one is a place in a bounded queue, or none, and never waits.

use std::time::Duration;

use http::{HeaderMap, Method};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
    TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

use super::trace;
use crate::server::calendar;

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Open {
    tracer: SdkTracer,
    method: &'static str,
    parent: Option<SpanContext>,
}

/// What is told of one that has ended.
pub(super) struct Told<'a> {
    pub(super) route: &'static str,
    pub(super) status: u16,
    /// What was selected of a recording.
    pub(super) selection: Option<&'static str>,
    /// How the body ended.
    pub(super) outcome: &'static str,
    pub(super) reason: Option<&'a str>,
    pub(super) sent: u64,
    pub(super) took: Duration,
}

impl Open {
    pub(super) fn begin(tracer: &SdkTracer, method: &Method, fields: &HeaderMap) -> Self {
        Self {
            tracer: tracer.clone(),
            method: name(method),
            parent: parent(fields),
        }
    }

    pub(super) fn end(self, told: &Told<'_>) {
        let end = calendar();
        let begin = end.checked_sub(told.took).unwrap_or(end);
        let text =
            |name, value: Option<&str>| value.map(|value| KeyValue::new(name, value.to_owned()));
        let number =
            |name, value: u64| KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX));
        let failed = told.status >= 500 || told.outcome == "failed";
        let attributes = [
            // Named so by OpenTelemetry's semantic conventions for HTTP.
            text("http.request.method", Some(self.method)),
            text("http.route", Some(told.route)),
            Some(number("http.response.status_code", told.status.into())),
            Some(number("http.response.body.size", told.sent)),
            text("error.type", told.reason.filter(|_| failed)),
            // Ours.
            text("tonearm.selection", told.selection),
            text("tonearm.outcome", Some(told.outcome)),
            text("tonearm.reason", told.reason),
        ];
        let builder = SpanBuilder::from_name(format!("{} {}", self.method, told.route))
            .with_kind(SpanKind::Server)
            .with_start_time(begin)
            .with_attributes(attributes.into_iter().flatten());
        let context = match self.parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let mut span = self.tracer.build_with_context(builder, &context);
        if failed {
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(end);
    }
}

/// The methods there are; any other would be a name of the client's making.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "_OTHER",
    }
}

/// Whose call this request is (W3C Trace Context), if it says so in the right form.
fn parent(fields: &HeaderMap) -> Option<SpanContext> {
    let parent = trace::parent(fields)?;
    let flags = u8::from_str_radix(parent.flags, 16).ok()?;
    Some(SpanContext::new(
        TraceId::from_hex(parent.trace).ok()?,
        SpanId::from_hex(parent.span).ok()?,
        // §4.2: of the others nothing is known.
        TraceFlags::new(flags) & TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    ))
}
