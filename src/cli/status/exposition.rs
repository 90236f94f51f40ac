//! Reads the text that the admin listener exposes: as much of OpenMetrics as this program writes.

/// One line's name, labels and value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: String,
}

/// What was exposed at one moment.
#[derive(Debug)]
pub(super) struct Exposition(Vec<Sample>);

impl Exposition {
    pub(super) fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(Sample::read).collect())
    }

    /// The value of the first of this name.
    pub(super) fn real(&self, name: &str) -> Option<f64> {
        self.named(name).next()?.value.parse().ok()
    }

    /// The sum of all that have this name, and labels that begin so. Counts what is a whole number.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.named(name)
            .filter(|sample| {
                labels.iter().all(|(label, start)| {
                    sample
                        .label(label)
                        .is_some_and(|value| value.starts_with(start))
                })
            })
            .filter_map(Sample::count)
            .sum()
    }

    /// The values behind each value of a label, largest first.
    pub(super) fn by_label(&self, name: &str, label: &str) -> Vec<(String, u64)> {
        let mut found: Vec<_> = self
            .named(name)
            .filter_map(|sample| Some((sample.label(label)?.to_owned(), sample.count()?)))
            .collect();
        found.sort_by_key(|(_, value)| std::cmp::Reverse(*value));
        found
    }

    pub(super) fn label(&self, name: &str, label: &str) -> Option<String> {
        let sample = self.named(name).next()?;
        sample.label(label).map(str::to_owned)
    }

    /// The upper bound of the bucket in which this percentile of a route's histogram lies.
    pub(super) fn quantile(&self, name: &str, route: &str, percent: u64) -> Option<f64> {
        let bucket = format!("{name}_bucket");
        let mut buckets: Vec<(f64, u64)> = self
            .named(&bucket)
            .filter(|sample| sample.label("route") == Some(route))
            .filter_map(|sample| Some((sample.label("le")?.parse().ok()?, sample.count()?)))
            .collect();
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let all = buckets.last().filter(|(_, count)| *count > 0)?.1;
        let wanted = (all * percent).div_ceil(100);
        let found = buckets.iter().find(|(_, count)| *count >= wanted);
        found.map(|(bound, _)| *bound)
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }
}

impl Sample {
    fn read(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        Some(Self {
            name: name.to_owned(),
            // No value of ours holds a comma or a quote.
            labels: labels
                .split(',')
                .filter_map(|label| label.split_once('='))
                .map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned()))
                .collect(),
            value: value.to_owned(),
        })
    }

    fn count(&self) -> Option<u64> {
        self.value.parse().ok()
    }

    fn label(&self, name: &str) -> Option<&str> {
        let (_, value) = self.labels.iter().find(|(label, _)| label == name)?;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exposed_is_read() {
        let read = Exposition::read(
            "# TYPE a counter\na_total{route=\"x\",status=\"404\"} 3\na_total{route=\"y\",status=\"200\"} 4\n\
             b 7\nt_sum{route=\"x\"} 0.5\nt_bucket{le=\"0.1\",route=\"x\"} 98\n\
             t_bucket{le=\"1.0\",route=\"x\"} 99\nt_bucket{le=\"+Inf\",route=\"x\"} 100\n# EOF\n",
        );
        assert_eq!(read.sum("a_total", &[]), 7);
        assert_eq!(read.sum("a_total", &[("status", "4")]), 3);
        assert_eq!(read.sum("b", &[]), 7);
        assert_eq!(read.sum("c", &[]), 0);
        assert_eq!(read.sum("t_sum", &[]), 0);
        assert_eq!((read.real("t_sum"), read.real("c")), (Some(0.5), None));
        let routes = [("y".to_owned(), 4), ("x".to_owned(), 3)];
        assert_eq!(read.by_label("a_total", "route"), routes);
        assert_eq!(read.label("a_total", "route"), Some("x".to_owned()));
        assert_eq!(read.quantile("t", "x", 50), Some(0.1));
        assert_eq!(read.quantile("t", "x", 99), Some(1.0));
        assert_eq!(read.quantile("t", "x", 100), Some(f64::INFINITY));
        assert_eq!(read.quantile("t", "y", 50), None);
    }
}
