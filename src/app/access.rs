//! The access log: one line a response, written when its body ends.
//!
//! Holds what finds a problem again, and nothing that opens a recording: never the query, never
//! Referer, of the MAC a fingerprint.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

use super::trace;
use crate::body::Ended;
use crate::metrics::{Class, Metrics};
use crate::route::Template;
use crate::select::Selection;
use crate::server::Arrival;
use crate::sign::{TokenTrace, redact};

/// What is known of a request before its answer is.
#[derive(Debug)]
pub(super) struct Entry {
    pub route: &'static str,
    pub reason: Option<Cow<'static, str>>,
    selection: Option<&'static str>,
    class: Class,
    #[cfg(feature = "otel")]
    pub span: Option<super::spans::Open>,
    /// What only the log needs; `None` where nobody reads it.
    line: Option<Box<Line>>,
}

#[derive(Debug)]
struct Line {
    peer: SocketAddr,
    /// Whom the peer spoke for.
    client: Option<IpAddr>,
    method: Method,
    path: String,
    token: Option<TokenTrace>,
    id: Option<HeaderValue>,
    trace: Option<String>,
}

impl Line {
    fn of(head: &Parts, arrival: &Arrival, resolver: &Template) -> Self {
        Self {
            peer: arrival.peer,
            client: (arrival.client != arrival.peer.ip()).then_some(arrival.client),
            method: head.method.clone(),
            path: resolver.masked(&redact(head.uri.path())),
            token: head.uri.query().and_then(TokenTrace::of_query),
            id: trace::request_id(&head.headers).cloned(),
            trace: trace::trace_id(&head.headers).map(str::to_owned),
        }
    }
}

impl Entry {
    pub(super) fn of(head: &Parts, arrival: &Arrival, resolver: &Template) -> Self {
        let logged = tracing::enabled!(target: "tonearm::access", tracing::Level::INFO);
        Self {
            route: "none",
            reason: None,
            selection: None,
            class: Class::of(&head.method),
            #[cfg(feature = "otel")]
            span: None,
            line: logged.then(|| Box::new(Line::of(head, arrival, resolver))),
        }
    }

    pub(super) fn selected(&mut self, selection: &Selection) {
        self.selection = Some(match selection {
            Selection::Partial(ranges) if ranges.as_slice().len() > 1 => "multiple",
            Selection::Partial(_) => "single",
            Selection::NotSatisfiable => "unsatisfiable",
            Selection::Full => "full",
            Selection::NotModified => "not_modified",
            Selection::PreconditionFailed => "precondition_failed",
        });
    }

    /// The kind of the range, for the log: the status tells the rest.
    fn range(&self) -> Option<&'static str> {
        self.selection
            .filter(|kind| matches!(*kind, "multiple" | "single" | "unsatisfiable"))
    }
}

/// A response on its way: the one place where the access log and the counters hang.
#[derive(Debug)]
pub(super) struct Delivery {
    entry: Entry,
    status: StatusCode,
    began: Instant,
    metrics: Arc<Metrics>,
}

impl Delivery {
    pub(super) fn new(
        entry: Entry,
        status: StatusCode,
        arrival: &Arrival,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            entry,
            status,
            began: arrival.at,
            metrics,
        }
    }

    pub(super) fn ended(self, ended: Ended) {
        #[cfg_attr(not(feature = "otel"), expect(unused_mut, reason = "for spans"))]
        let Self {
            mut entry,
            status,
            began,
            metrics,
        } = self;
        metrics.answered(entry.route, entry.class, status.as_u16());
        if let Some(kind) = entry.selection {
            metrics.selected(kind);
        }
        let took = ended.first_byte.unwrap_or_else(|| began.elapsed());
        metrics.first_byte(entry.route, took);
        metrics.ended(ended.outcome.word(), ended.promised, ended.sent);
        #[cfg(feature = "otel")]
        if let Some(span) = entry.span.take() {
            span.end(&super::spans::Told {
                route: entry.route,
                status: status.as_u16(),
                selection: entry.selection,
                outcome: ended.outcome.word(),
                reason: entry.reason.as_deref(),
                sent: ended.sent,
                took: began.elapsed(),
            });
        }
        let range = entry.range();
        let Some(line) = entry.line else { return };
        let token = line.token.as_ref();
        tracing::info!(
            target: "tonearm::access",
            peer = %line.peer,
            client = line.client.map(tracing::field::display),
            method = %line.method,
            route = entry.route,
            path = line.path,
            status = status.as_u16(),
            reason = entry.reason.as_deref(),
            range,
            kid = token.map(|token| token.kid.as_str()),
            exp = token.map(|token| token.exp.0),
            options = token.map(|token| token.options.as_str()),
            mac = token.map(|token| token.mac_print.as_str()),
            request_id = line.id.as_ref().and_then(|id| id.to_str().ok()),
            trace_id = line.trace,
            promised = ended.promised,
            sent = ended.sent,
            outcome = ended.outcome.word(),
            micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        );
    }
}
