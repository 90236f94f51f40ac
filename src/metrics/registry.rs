//! The names under which the counters are shown, and what each says of itself.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use super::Metrics;
use super::reading::{Read, ReadEach, ReadNow};

impl Metrics {
    pub(super) fn register_traffic(&mut self) {
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
            "Bytes of bodies handed to connections, by the body's outcome; of one that was aborted, the client may have taken fewer",
            Unit::Bytes,
            self.sent.family(),
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

    pub(super) fn register_connections(&mut self) {
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
            "Days until the certificate ends; negative when it has, 0 where there is none yet",
            self.certificate_days.clone(),
        );
        registry.register(
            "certificate_orders",
            "Certificates asked for by ACME, by outcome; a failed one is asked for again",
            self.certificate_orders.family(),
        );
    }

    pub(super) fn register_state(&mut self) {
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

    /// Tells of panics.
    #[must_use]
    pub fn of_panics(mut self, panics: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let help = "Panics, each of which has ended what it was about";
        self.registry.register("panics", help, Read(panics));
        self
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
}

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}
