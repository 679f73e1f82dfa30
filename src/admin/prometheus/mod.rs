//! Metric families in the two formats that Prometheus scrapes: text, with classic histograms, and protobuf
//! (`io.prometheus.client.MetricFamily`, length-delimited), with classic and native ones.

mod native;
mod protobuf;
mod text;

use hdrhistogram::Histogram;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Protobuf,
}

impl Format {
    /// What a scraper's `Accept` header asks for: protobuf where it is named, whatever else would do as well.
    pub fn accepted(accept: &str) -> Self {
        let named = |part: &str| {
            part.trim().starts_with("application/vnd.google.protobuf")
                && part.contains("proto=io.prometheus.client.MetricFamily")
                && part.contains("encoding=delimited")
        };
        if accept.split(',').any(named) { Self::Protobuf } else { Self::Text }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Families in the order in which they were begun. A family's samples follow its `family` call at once.
#[derive(Default)]
pub struct Families(Vec<Family>);

struct Family {
    name: &'static str,
    kind: Kind,
    help: String,
    samples: Vec<Sample>,
}

struct Sample {
    labels: Vec<(String, String)>,
    value: Value,
}

enum Value {
    Number(f64),
    Distribution(Distribution),
}

struct Distribution {
    count: u64,
    sum: f64,
    /// Upper bounds, and how much lies at or below each.
    classic: Vec<(f64, u64)>,
    native: native::Buckets,
}

impl Families {
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.0.push(Family { name, kind, help: help.to_owned(), samples: Vec::new() });
    }

    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.push(labels, Value::Number(value));
    }

    /// A histogram of integers, each worth `unit` (0.000001 for microseconds shown as seconds), counted
    /// into `bounds` of the integers. `sum` is of the integers too.
    pub fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        histogram: &Histogram<u64>,
        sum: u64,
        bounds: &[u64],
        unit: f64,
    ) {
        let mut recorded = histogram.iter_recorded().peekable();
        let mut below = 0;
        let mut classic = Vec::with_capacity(bounds.len());
        for bound in bounds {
            // A value within the histogram's precision of the bound counts as at the bound.
            while recorded
                .peek()
                .is_some_and(|v| histogram.lowest_equivalent(v.value_iterated_to()) <= *bound)
            {
                below += recorded.next().map_or(0, |v| v.count_since_last_iteration());
            }
            classic.push((*bound as f64 * unit, below));
        }
        let native = native::Buckets::of(histogram, unit);
        let distribution = Distribution { count: histogram.len(), sum: sum as f64 * unit, classic, native };
        self.push(labels, Value::Distribution(distribution));
    }

    fn push(&mut self, labels: &[(&str, &str)], value: Value) {
        let labels = labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let family = self.0.last_mut().expect("a family was begun");
        family.samples.push(Sample { labels, value });
    }

    pub fn encode(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Text => text::encode(&self.0).into_bytes(),
            Format::Protobuf => protobuf::encode(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_is_for_who_names_it() {
        let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
            encoding=delimited;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::Protobuf);
        for other in ["", "*/*", "text/plain", "application/vnd.google.protobuf", "application/json"] {
            assert_eq!(Format::accepted(other), Format::Text, "{other}");
        }
    }
}
