//! Metrics whose values somebody else keeps, or that have none yet. They are read when they are shown.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

use super::label::OutcomeLabel;

/// A gauge that is shown once it has been set.
#[derive(Debug, Clone)]
pub(super) struct MaybeGauge(pub(super) Gauge<f64, AtomicU64>);

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
pub(super) struct Read<F>(pub(super) F);

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
pub(super) struct ReadEach<F>(pub(super) F);

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
pub(super) struct ReadNow<F>(pub(super) F);

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
