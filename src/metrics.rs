//! What the server counts. Labels are bounded: no id, path or address is one.
//!
//! What a request for a recording counts has its handle already: counting it is one addition, with
//! no lookup, no lock and nothing allocated. The rest is looked up by its labels.

mod at_hand;
mod label;
mod latency;
mod reading;
mod registry;

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::at_hand::AtHand;
pub(crate) use self::label::Class;
use self::label::{
    HandshakeLabels, KindLabel, OutcomeLabel, ReasonLabel, RequestLabels, RouteLabel, VerdictLabel,
};
use self::latency::Latency;
use self::reading::MaybeGauge;

/// The keys of a keyring, as they are at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// How many there are.
    pub count: usize,
    /// How many could sign.
    pub signing: usize,
    /// Since when the one that signs does, Unix seconds; 0 where it always did.
    pub signs_since: u64,
    /// Until when it does; 0 where it has no end.
    pub signs_until: u64,
}

/// The server's counters and their registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: AtHand<RequestLabels, Counter, 6>,
    first_byte: AtHand<RouteLabel, Latency, 1>,
    selections: AtHand<KindLabel, Counter, 6>,
    bodies: AtHand<OutcomeLabel, Counter, 3>,
    promised: Counter,
    sent: AtHand<OutcomeLabel, Counter, 3>,
    connections: Gauge,
    cuts: Family<ReasonLabel, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    certificate_reloads: AtHand<OutcomeLabel, Counter, 2>,
    certificate_days: MaybeGauge,
    certificate_orders: AtHand<OutcomeLabel, Counter, 2>,
    refusals: Family<ReasonLabel, Counter>,
    questions: Family<OutcomeLabel, Counter>,
    signatures: Family<VerdictLabel, Counter>,
    reloads: AtHand<OutcomeLabel, Counter, 2>,
    keys: Gauge,
    signing_keys: Gauge,
    signs_since: Gauge,
    signs_until: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // Likeliest first.
        let media = [206, 200, 304, 403, 404, 416].map(|status| RequestLabels {
            route: "media",
            method: Class::Read.word(),
            status,
        });
        let outcomes = ["complete", "aborted", "failed"].map(|outcome| OutcomeLabel { outcome });
        let mut metrics = Self {
            registry: Registry::with_prefix("tonearm"),
            requests: AtHand::new(media),
            first_byte: AtHand::new([RouteLabel { route: "media" }]),
            selections: AtHand::new(
                [
                    "single",
                    "full",
                    "multiple",
                    "not_modified",
                    "unsatisfiable",
                    "precondition_failed",
                ]
                .map(|kind| KindLabel { kind }),
            ),
            bodies: AtHand::new(outcomes),
            promised: Counter::default(),
            sent: AtHand::new(outcomes),
            connections: Gauge::default(),
            cuts: Family::default(),
            handshakes: Family::default(),
            certificate_reloads: AtHand::new(
                ["ok", "failed"].map(|outcome| OutcomeLabel { outcome }),
            ),
            certificate_days: MaybeGauge::default(),
            certificate_orders: AtHand::new(
                ["ok", "failed"].map(|outcome| OutcomeLabel { outcome }),
            ),
            refusals: Family::default(),
            questions: Family::default(),
            signatures: Family::default(),
            reloads: AtHand::new(["ok", "failed"].map(|outcome| OutcomeLabel { outcome })),
            keys: Gauge::default(),
            signing_keys: Gauge::default(),
            signs_since: Gauge::default(),
            signs_until: Gauge::default(),
        };
        metrics.register_traffic();
        metrics.register_connections();
        metrics.register_state();
        metrics
    }
}

impl Metrics {
    pub(crate) fn answered(&self, route: &'static str, class: Class, status: u16) {
        let labels = RequestLabels {
            route,
            method: class.word(),
            status,
        };
        self.requests.with(labels, Counter::inc);
    }

    pub(crate) fn selected(&self, kind: &'static str) {
        self.selections.with(KindLabel { kind }, Counter::inc);
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn ended(&self, outcome: &'static str, promised: u64, sent: u64) {
        let labels = OutcomeLabel { outcome };
        self.bodies.with(labels, Counter::inc);
        self.promised.inc_by(promised);
        self.sent.with(labels, |bytes| bytes.inc_by(sent));
    }

    pub(crate) fn first_byte(&self, route: &'static str, after: Duration) {
        self.first_byte
            .with(RouteLabel { route }, |latency| latency.observe(after));
    }

    pub(crate) fn opened(&self) {
        self.connections.inc();
    }

    pub(crate) fn closed(&self) {
        self.connections.dec();
    }

    pub(crate) fn cut(&self, reason: &'static str) {
        self.cuts.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn shook_hands(&self, version: &'static str, kind: &'static str) {
        self.handshakes
            .get_or_create(&HandshakeLabels { version, kind })
            .inc();
    }

    /// Tells how many days are left until the certificate ends.
    pub fn certificate_days(&self, days: f64) {
        self.certificate_days.0.set(days);
    }

    /// Counts a certificate that was asked for by ACME.
    pub fn ordered(&self, ok: bool) {
        let outcome = if ok { "ok" } else { "failed" };
        self.certificate_orders
            .with(OutcomeLabel { outcome }, Counter::inc);
    }

    /// Counts a reload of the certificate.
    pub fn certificate_reloaded(&self, ok: bool) {
        let outcome = if ok { "ok" } else { "failed" };
        self.certificate_reloads
            .with(OutcomeLabel { outcome }, Counter::inc);
    }

    /// Counts an answer to HubSpot's question.
    pub(crate) fn question(&self, outcome: &'static str) {
        self.questions
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    /// Counts a signature of HubSpot's.
    pub(crate) fn signature(&self, verdict: &'static str) {
        self.signatures
            .get_or_create(&VerdictLabel { verdict })
            .inc();
    }

    /// Counts a reload of the keyring.
    pub fn reloaded(&self, ok: bool) {
        let outcome = if ok { "ok" } else { "failed" };
        self.reloads.with(OutcomeLabel { outcome }, Counter::inc);
    }

    pub(crate) fn keys(&self, keys: Keys) {
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.keys, u64::try_from(keys.count).unwrap_or(u64::MAX));
        set(
            &self.signing_keys,
            u64::try_from(keys.signing).unwrap_or(u64::MAX),
        );
        set(&self.signs_since, keys.signs_since);
        set(&self.signs_until, keys.signs_until);
    }

    /// The exposition, in OpenMetrics text.
    #[must_use]
    pub fn exposition(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
