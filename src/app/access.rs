//! The access log: one line a response, written when its body ends.
//!
//! Holds what finds a problem again, and nothing that opens a recording: never the query, never
//! Referer, of the MAC a fingerprint.

mod line;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{Method, StatusCode};
use tracing::level_filters::LevelFilter;

pub use self::line::{AccessLog, Shape};
use self::line::{Token, Told};
use super::{App, trace};
use crate::body::Ended;
use crate::metrics::Class;
use crate::recording::UnixTime;
use crate::route::Template;
use crate::select::Selection;
use crate::server::{Arrival, calendar};
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
    /// The token's, where there is one.
    exp: Option<UnixTime>,
    texts: Texts,
}

/// The texts of a line, in one allocation: what is borrowed from the request's head would keep the
/// whole of it for as long as the body is sent.
#[derive(Debug)]
struct Texts {
    all: String,
    /// Where each ends.
    ends: [usize; 6],
}

impl Texts {
    /// Bytes for what is not the path: ids, options, and the prints of MACs.
    const ROOM: usize = 128;

    fn of(head: &Parts, resolver: &Template, token: Option<&TokenTrace<'_>>) -> Self {
        let path = head.uri.path();
        let mut all = String::with_capacity(path.len() + Self::ROOM);
        all.push_str(&resolver.masked(&redact(path)));
        let mut ends = [all.len(); 6];
        if let Some(token) = token {
            all.push_str(token.kid);
            ends[1] = all.len();
            token.push_options(&mut all);
            ends[2] = all.len();
            token.push_mac_print(&mut all);
            ends[3] = all.len();
        }
        let id = trace::request_id(&head.headers).and_then(|id| id.to_str().ok());
        all.push_str(id.unwrap_or_default());
        ends[4] = all.len();
        all.push_str(trace::trace_id(&head.headers).unwrap_or_default());
        ends[5] = all.len();
        Self { all, ends }
    }

    /// Path, key id, options, print of the MAC, request id, trace id; what is not there is empty.
    fn each(&self) -> [&str; 6] {
        let mut begin = 0;
        self.ends.map(|end| {
            let text = self.all.get(begin..end).unwrap_or_default();
            begin = end;
            text
        })
    }
}

impl Line {
    fn of(head: &Parts, arrival: &Arrival, resolver: &Template) -> Self {
        let token = head.uri.query().and_then(TokenTrace::of_query);
        Self {
            peer: arrival.peer,
            client: (arrival.client != arrival.peer.ip()).then_some(arrival.client),
            method: head.method.clone(),
            exp: token.as_ref().map(|token| token.exp),
            texts: Texts::of(head, resolver, token.as_ref()),
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
    app: Arc<App>,
}

impl Delivery {
    pub(super) fn new(entry: Entry, status: StatusCode, arrival: &Arrival, app: Arc<App>) -> Self {
        Self {
            entry,
            status,
            began: arrival.at,
            app,
        }
    }

    #[cfg_attr(not(feature = "otel"), expect(unused_mut, reason = "for spans"))]
    pub(super) fn ended(mut self, ended: Ended) {
        let (entry, metrics) = (&self.entry, &self.app.metrics);
        metrics.answered(entry.route, entry.class, self.status.as_u16());
        if let Some(kind) = entry.selection {
            metrics.selected(kind);
        }
        let took = ended.first_byte.unwrap_or_else(|| self.began.elapsed());
        metrics.first_byte(entry.route, took);
        metrics.ended(ended.outcome.word(), ended.promised, ended.sent);
        #[cfg(feature = "otel")]
        if let Some(span) = self.entry.span.take() {
            span.end(&super::spans::Told {
                route: self.entry.route,
                status: self.status.as_u16(),
                selection: self.entry.selection,
                outcome: ended.outcome.word(),
                reason: self.entry.reason.as_deref(),
                sent: ended.sent,
                took: self.began.elapsed(),
            });
        }
        if let Some(line) = &self.entry.line {
            self.log(line, ended);
        }
    }

    fn log(&self, line: &Line, ended: Ended) {
        let [path, kid, options, mac, request_id, trace_id] = line.texts.each();
        let told = Told {
            peer: line.peer,
            client: line.client,
            method: &line.method,
            route: self.entry.route,
            path,
            status: self.status.as_u16(),
            reason: self.entry.reason.as_deref(),
            range: self.entry.range(),
            token: line.exp.map(|exp| Token {
                kid,
                exp,
                options,
                mac,
            }),
            request_id: present(request_id),
            trace_id: present(trace_id),
            promised: ended.promised,
            sent: ended.sent,
            outcome: ended.outcome.word(),
            micros: u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        // Where more is heard than this there are spans, in which an event stands in a line.
        let by_hand = LevelFilter::current() <= LevelFilter::INFO;
        match self.app.access.as_ref().filter(|_| by_hand) {
            Some(log) => log.tell(&told, calendar()),
            None => told.event(),
        }
    }
}

fn present(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
