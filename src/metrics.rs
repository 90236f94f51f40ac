//! What the server counts. Labels are bounded: no id, path or address is one.
//!
//! What a request for a recording counts has its handle already: counting it is one addition, with
//! no lookup, no lock and nothing allocated. The rest is looked up by its labels.

mod at_hand;
mod latency;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::Method;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::at_hand::AtHand;
use self::latency::Latency;

/// Methods of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// GET and HEAD.
    Read,
    /// PUT, POST, PATCH and DELETE.
    Write,
    /// OPTIONS.
    Options,
    /// Any other.
    Other,
}

impl Class {
    pub(crate) fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Read,
            Method::PUT | Method::POST | Method::PATCH | Method::DELETE => Self::Write,
            Method::OPTIONS => Self::Options,
            _ => Self::Other,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Options => "options",
            Self::Other => "other",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    version: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

macro_rules! one_label {
    ($($name:ident { $label:ident })*) => {$(
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name {
            $label: &'static str,
        }
    )*};
}

one_label! {
    RouteLabel { route }
    KindLabel { kind }
    ReasonLabel { reason }
    OutcomeLabel { outcome }
    VerdictLabel { verdict }
}

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
    sent: Counter,
    connections: Gauge,
    cuts: Family<ReasonLabel, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    certificate_reloads: AtHand<OutcomeLabel, Counter, 2>,
    certificate_days: MaybeGauge,
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
            bodies: AtHand::new(
                ["complete", "aborted", "failed"].map(|outcome| OutcomeLabel { outcome }),
            ),
            promised: Counter::default(),
            sent: Counter::default(),
            connections: Gauge::default(),
            cuts: Family::default(),
            handshakes: Family::default(),
            certificate_reloads: AtHand::new(
                ["ok", "failed"].map(|outcome| OutcomeLabel { outcome }),
            ),
            certificate_days: MaybeGauge::default(),
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
    fn register_traffic(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "Requests answered, by route, method class and status",
            self.requests.family(),
        );
        registry.register_with_unit(
            "first_byte",
            "Time from a request's head to the first byte of its answer's body, or to its end where it has none, by route",
            Unit::Seconds,
            self.first_byte.family(),
        );
        registry.register(
            "selections",
            "Recordings selected from, by what was selected",
            self.selections.family(),
        );
        registry.register(
            "refusals",
            "Requests refused, by reason",
            self.refusals.clone(),
        );
        registry.register(
            "bodies",
            "Response bodies ended, by outcome",
            self.bodies.family(),
        );
        registry.register_with_unit(
            "promised",
            "Bytes of bodies promised",
            Unit::Bytes,
            self.promised.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Bytes of bodies handed to connections",
            Unit::Bytes,
            self.sent.clone(),
        );
        registry.register(
            "hubspot_questions",
            "Questions for a URL, by outcome",
            self.questions.clone(),
        );
        registry.register(
            "hubspot_signatures",
            "HubSpot's signatures on questions, by verdict",
            self.signatures.clone(),
        );
    }

    fn register_connections(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "connections",
            "Connections open on the public listener",
            self.connections.clone(),
        );
        registry.register(
            "connections_cut",
            "Connections that were ended for what they did or did not do, by reason",
            self.cuts.clone(),
        );
        registry.register(
            "tls_handshakes",
            "TLS handshakes that came to their end, by version and kind",
            self.handshakes.clone(),
        );
        registry.register(
            "certificate_reloads",
            "Reloads of the certificate, by outcome; a failed one keeps the old pair",
            self.certificate_reloads.family(),
        );
        registry.register(
            "certificate_days",
            "Days until the certificate ends; negative when it has",
            self.certificate_days.clone(),
        );
    }

    fn register_state(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "build",
            "The program's version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "keyring_reloads",
            "Reloads of the keyring, by outcome; a failed one keeps the old ring",
            self.reloads.family(),
        );
        registry.register("keys", "Keys of the keyring", self.keys.clone());
        registry.register(
            "signing_keys",
            "Keys that could sign now",
            self.signing_keys.clone(),
        );
        registry.register(
            "signing_key_since_timestamp_seconds",
            "Since when the key that signs does; 0 where it always did",
            self.signs_since.clone(),
        );
        registry.register(
            "signing_key_until_timestamp_seconds",
            "Until when the key that signs does; 0 where it has no end",
            self.signs_until.clone(),
        );
    }

    /// Tells of log lines that were lost, and of when this server started, Unix seconds.
    #[must_use]
    pub fn of_server(
        mut self,
        dropped_lines: impl Fn() -> u64 + Send + Sync + 'static,
        started: u64,
    ) -> Self {
        let started: Gauge = gauge(started);
        self.registry.register(
            "start_timestamp_seconds",
            "When the server started",
            started,
        );
        self.registry.register(
            "log_lines_dropped",
            "Log lines lost because standard error was read too slowly",
            Read(dropped_lines),
        );
        self
    }

    /// Tells of a cache: what became of the slices that were asked for, and the bytes it holds.
    #[must_use]
    pub fn of_cache<const N: usize>(
        mut self,
        outcomes: impl Fn() -> [(&'static str, u64); N] + Send + Sync + 'static,
        bytes: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.registry.register(
            "cache_slices",
            "Slices of recordings asked for, by what became of it; a miss is a fetch from the bucket",
            ReadEach(outcomes),
        );
        self.registry.register_with_unit(
            "cache",
            "Bytes that the cache holds on disk",
            Unit::Bytes,
            ReadNow(bytes),
        );
        self
    }

    /// Tells how far the kernel keeps this server to its files: `full`, `partial`, `none` or `off`.
    #[must_use]
    pub fn confined(mut self, state: &'static str) -> Self {
        let info = Info::new(vec![("state", state)]);
        let help = "How far the kernel keeps the server to its files";
        self.registry.register("confinement", help, info);
        self
    }

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
        self.bodies.with(OutcomeLabel { outcome }, Counter::inc);
        self.promised.inc_by(promised);
        self.sent.inc_by(sent);
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

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}

/// A gauge that is shown once it has been set.
#[derive(Debug, Clone)]
struct MaybeGauge(Gauge<f64, AtomicU64>);

impl Default for MaybeGauge {
    fn default() -> Self {
        let gauge = Gauge::default();
        gauge.set(f64::NAN);
        Self(gauge)
    }
}

impl EncodeMetric for MaybeGauge {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        if self.0.get().is_nan() {
            return Ok(());
        }
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// A counter that somebody else keeps.
struct Read<F>(F);

impl<F> fmt::Debug for Read<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Read")
    }
}

impl<F: Fn() -> u64> EncodeMetric for Read<F> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        ConstCounter::new((self.0)()).encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Counters that somebody else keeps, by outcome.
struct ReadEach<F>(F);

impl<F> fmt::Debug for ReadEach<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadEach")
    }
}

impl<F: Fn() -> [(&'static str, u64); N], const N: usize> EncodeMetric for ReadEach<F> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (outcome, count) in (self.0)() {
            let labels = OutcomeLabel { outcome };
            ConstCounter::new(count).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// A gauge that somebody else keeps.
struct ReadNow<F>(F);

impl<F> fmt::Debug for ReadNow<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadNow")
    }
}

impl<F: Fn() -> u64> EncodeMetric for ReadNow<F> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        let value = i64::try_from((self.0)()).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}
