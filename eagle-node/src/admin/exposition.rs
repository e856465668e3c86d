//! An exposition is what one scrape gets: families of metrics, put together from figures and written in Prometheus' text format.
//!
//! The crate `prometheus` has the model and writes it. Its own counters are not used: what is counted is counted by cores, once.

use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType, Quantile, Summary},
};

use crate::core::latency;

/// The text format's type, as Prometheus asks for it.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names of labels, with their values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Families in the order in which they were begun.
#[derive(Default)]
pub(super) struct Exposition {
    families: Vec<MetricFamily>,
}

impl Exposition {
    /// The text. Families without a metric are left out.
    pub(super) fn into_text(self) -> String {
        let families: Vec<MetricFamily> =
            self.families.into_iter().filter(|family| !family.get_metric().is_empty()).collect();
        TextEncoder::new().encode_to_string(&families).expect("families that have metrics of their type")
    }

    fn family(&mut self, kind: MetricType, name: &str, help: &str) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.families.push(family);
        Family { family: self.families.last_mut().expect("just pushed") }
    }

    /// A family of numbers that only grow.
    pub(super) fn counters(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(MetricType::COUNTER, name, help)
    }

    /// A family of numbers that come and go.
    pub(super) fn gauges(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(MetricType::GAUGE, name, help)
    }

    /// A family of histograms.
    pub(super) fn histograms(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(MetricType::HISTOGRAM, name, help)
    }

    /// A family of percentiles.
    pub(super) fn summaries(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(MetricType::SUMMARY, name, help)
    }

    /// One number that only grows.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.counters(name, help).add(&[], value);
    }

    /// One number that comes and goes.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help).add(&[], value);
    }
}

/// A family that is being filled.
pub(super) struct Family<'a> {
    family: &'a mut MetricFamily,
}

impl Family<'_> {
    fn push(&mut self, labels: Labels<'_>, metric: impl FnOnce(&mut Metric)) {
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut filled = Metric::from_label(labels.iter().map(pair).collect());
        metric(&mut filled);
        self.family.mut_metric().push(filled);
    }

    /// A number of a family of counters or gauges.
    pub(super) fn add(&mut self, labels: Labels<'_>, value: f64) {
        let is_counter = self.family.get_field_type() == MetricType::COUNTER;
        self.push(labels, |metric| {
            if is_counter {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        });
    }

    /// A histogram, in units of so many nanoseconds. Bounds are powers of two nanoseconds up to 17 s.
    pub(super) fn add_histogram(&mut self, labels: Labels<'_>, counted: &latency::Histogram, unit_ns: f64) {
        const BOUND_NS_MAX: u64 = 1 << 34;
        let bucket = |(bound_ns, count): (u64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound_ns as f64 / unit_ns);
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_sample_count(counted.total());
        histogram.set_sample_sum(counted.sum_ns() as f64 / unit_ns);
        histogram
            .set_bucket(counted.below().take_while(|(bound_ns, _)| *bound_ns <= BOUND_NS_MAX).map(bucket).collect());
        self.push(labels, |metric| metric.set_histogram(histogram));
    }

    /// Percentiles, in units of so many nanoseconds; each is named by its percent, as redis_exporter does.
    pub(super) fn add_summary(
        &mut self,
        labels: Labels<'_>,
        counted: &latency::Histogram,
        percents: &[f64],
        unit_ns: f64,
    ) {
        let quantile = |percent: &f64| {
            let mut quantile = Quantile::default();
            quantile.set_quantile(*percent);
            quantile.set_value(counted.percentile_ns(*percent) as f64 / unit_ns);
            quantile
        };
        let mut summary = Summary::default();
        summary.set_sample_count(counted.total());
        summary.set_sample_sum(counted.sum_ns() as f64 / unit_ns);
        summary.set_quantile(percents.iter().map(quantile).collect());
        self.push(labels, |metric| metric.set_summary(summary));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        // A counter, labels with characters to be escaped, a histogram that is cumulative; a family without a metric is left out.
        let mut exposition = Exposition::default();
        exposition.counter("a_total", "A thing.", 3.0);
        exposition.gauges("nothing", "None.");
        exposition.gauges("b", "B.").add(&[("db", "a\"b\\c")], 0.5);
        let mut histogram = latency::Histogram::default();
        histogram.count_us(1);
        histogram.count_us(3);
        exposition.histograms("c_seconds", "C.").add_histogram(&[], &histogram, 1e9);
        let text = exposition.into_text();
        assert!(
            text.starts_with("# HELP a_total A thing.\n# TYPE a_total counter\na_total 3\n# HELP b B.\n"),
            "{text}"
        );
        assert!(text.contains("\nb{db=\"a\\\"b\\\\c\"} 0.5\n"), "{text}");
        assert!(text.contains("\nc_seconds_bucket{le=\"0.000001024\"} 1\n"), "{text}");
        assert!(text.contains("\nc_seconds_bucket{le=\"0.000004096\"} 2\n"), "{text}");
        assert!(
            text.contains("\nc_seconds_bucket{le=\"+Inf\"} 2\nc_seconds_sum 0.000004\nc_seconds_count 2\n"),
            "{text}"
        );
        assert!(!text.contains("nothing"), "{text}");
    }
}
