//! What the server counts. Labels are bounded: no id, path or address is one.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// The server's counters and their registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    refusals: Family<ReasonLabels, Counter>,
    bodies: Family<OutcomeLabels, Counter>,
    sent: Counter,
    reloads: Family<OutcomeLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tonearm"),
            requests: Family::default(),
            refusals: Family::default(),
            bodies: Family::default(),
            sent: Counter::default(),
            reloads: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "Requests answered, by route and status",
            self.requests.clone(),
        );
        registry.register(
            "refusals",
            "Signed URLs refused, by reason",
            self.refusals.clone(),
        );
        registry.register(
            "bodies",
            "Response bodies ended, by outcome",
            self.bodies.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Bytes of bodies handed to connections",
            Unit::Bytes,
            self.sent.clone(),
        );
        registry.register(
            "keyring_reloads",
            "Reloads of the keyring, by outcome; a failed one keeps the old ring",
            self.reloads.clone(),
        );
    }

    pub(crate) fn answered(&self, route: &'static str, status: u16) {
        self.requests
            .get_or_create(&RequestLabels { route, status })
            .inc();
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn ended(&self, outcome: &'static str, sent: u64) {
        self.bodies.get_or_create(&OutcomeLabels { outcome }).inc();
        self.sent.inc_by(sent);
    }

    /// Counts a reload of the keyring.
    pub fn reloaded(&self, ok: bool) {
        let outcome = if ok { "ok" } else { "failed" };
        self.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
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
