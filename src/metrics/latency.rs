//! A histogram of durations that is counted without a lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The buckets' upper bounds, in microseconds. What a listener feels begins at a tenth of a second;
/// what lies in the page cache is answered within one millisecond.
const BOUNDS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

#[derive(Debug, Clone, Default)]
pub(super) struct Latency(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    within: [AtomicU64; BOUNDS.len()],
    beyond: AtomicU64,
    micros: AtomicU64,
}

impl Latency {
    pub(super) fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS.partition_point(|bound| *bound < micros);
        let count = self.0.within.get(at).unwrap_or(&self.0.beyond);
        count.fetch_add(1, Ordering::Relaxed);
        self.0.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let seconds = |micros| Duration::from_micros(micros).as_secs_f64();
        let bounds = BOUNDS.into_iter().map(seconds).chain([f64::INFINITY]);
        let counts = self.0.within.iter().chain([&self.0.beyond]);
        let buckets: Vec<(f64, u64)> = bounds
            .zip(counts.map(|count| count.load(Ordering::Relaxed)))
            .collect();
        // Counted here, so that the count is that of these buckets.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = seconds(self.0.micros.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_bucket_whose_bound_it_does_not_pass() {
        let latency = Latency::default();
        for micros in [0, 100, 101, 5_000_000, 5_000_001] {
            latency.observe(Duration::from_micros(micros));
        }
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("x", "x", latency);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "x_bucket{le=\"0.0001\"} 2",
            "x_bucket{le=\"0.00025\"} 3",
            "x_bucket{le=\"1.0\"} 3",
            "x_bucket{le=\"5.0\"} 4",
            "x_bucket{le=\"+Inf\"} 5",
            "x_count 5",
            "x_sum 10.000202",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
