//! The access log: one line a response, written when its body ends.
//!
//! Holds what finds a problem again, and nothing that opens a recording: never the query, never
//! Referer, of the MAC a fingerprint.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{Method, StatusCode};

use crate::body::Ended;
use crate::metrics::Metrics;
use crate::route::Template;
use crate::select::Selection;
use crate::server::Arrival;
use crate::sign::{TokenTrace, redact};

/// What is known of a request before its answer is.
#[derive(Debug)]
pub(super) struct Entry {
    pub route: &'static str,
    pub reason: Option<Cow<'static, str>>,
    range: Option<&'static str>,
    /// What only the log needs; `None` where nobody reads it.
    line: Option<Line>,
}

#[derive(Debug)]
struct Line {
    peer: SocketAddr,
    method: Method,
    path: String,
    trace: Option<TokenTrace>,
}

impl Entry {
    pub(super) fn of(head: &Parts, arrival: &Arrival, resolver: &Template) -> Self {
        let logged = tracing::enabled!(target: "tonearm::access", tracing::Level::INFO);
        Self {
            route: "none",
            reason: None,
            range: None,
            line: logged.then(|| Line {
                peer: arrival.peer,
                method: head.method.clone(),
                path: resolver.masked(&redact(head.uri.path())),
                trace: head.uri.query().and_then(TokenTrace::of_query),
            }),
        }
    }

    pub(super) fn selected(&mut self, selection: &Selection) {
        self.range = match selection {
            Selection::Partial(ranges) if ranges.as_slice().len() > 1 => Some("multiple"),
            Selection::Partial(_) => Some("single"),
            Selection::NotSatisfiable => Some("unsatisfiable"),
            Selection::Full | Selection::NotModified | Selection::PreconditionFailed => None,
        };
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
        let Self {
            entry,
            status,
            began,
            metrics,
        } = self;
        metrics.answered(entry.route, status.as_u16());
        metrics.ended(ended.outcome.word(), ended.sent);
        let Some(line) = entry.line else { return };
        let trace = line.trace.as_ref();
        tracing::info!(
            target: "tonearm::access",
            peer = %line.peer,
            method = %line.method,
            route = entry.route,
            path = line.path,
            status = status.as_u16(),
            reason = entry.reason.as_deref(),
            range = entry.range,
            kid = trace.map(|trace| trace.kid.as_str()),
            exp = trace.map(|trace| trace.exp.0),
            options = trace.map(|trace| trace.options.as_str()),
            mac = trace.map(|trace| trace.mac_print.as_str()),
            promised = ended.promised,
            sent = ended.sent,
            outcome = ended.outcome.word(),
            micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        );
    }
}
