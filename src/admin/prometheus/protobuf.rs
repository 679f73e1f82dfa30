//! The protobuf format: field numbers are those of prometheus/client_model's `metrics.proto`.

use prost::{Enumeration, Message};

use super::native::{SCHEMA, ZERO_THRESHOLD};
use super::{Distribution, Family, Kind, Value};

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

pub fn encode(families: &[Family]) -> Vec<u8> {
    families.iter().flat_map(|family| message(family).encode_length_delimited_to_vec()).collect()
}

fn message(family: &Family) -> MetricFamily {
    let metric = |sample: &super::Sample| {
        let label =
            |(name, value): &(String, String)| Label { name: Some(name.clone()), value: Some(value.clone()) };
        let mut metric = Metric { label: sample.labels.iter().map(label).collect(), ..Metric::default() };
        match (&sample.value, family.kind) {
            (Value::Distribution(distribution), _) => metric.histogram = Some(histogram(distribution)),
            (Value::Number(value), Kind::Counter) => metric.counter = Some(Number { value: Some(*value) }),
            (Value::Number(value), _) => metric.gauge = Some(Number { value: Some(*value) }),
        }
        metric
    };
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    MetricFamily {
        name: Some(family.name.to_owned()),
        help: Some(family.help.clone()),
        kind: Some(kind.into()),
        metric: family.samples.iter().map(metric).collect(),
    }
}

fn histogram(distribution: &Distribution) -> Histogram {
    let bucket =
        |(bound, below): &(f64, u64)| Bucket { cumulative_count: Some(*below), upper_bound: Some(*bound) };
    let native = &distribution.native;
    let span = |(offset, length): &(i32, u32)| Span { offset: Some(*offset), length: Some(*length) };
    Histogram {
        sample_count: Some(distribution.count),
        sample_sum: Some(distribution.sum),
        bucket: distribution.classic.iter().map(bucket).collect(),
        schema: Some(SCHEMA),
        zero_threshold: Some(ZERO_THRESHOLD),
        zero_count: Some(native.zero_count),
        positive_span: native.spans.iter().map(span).collect(),
        positive_delta: native.deltas.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Families, Format};
    use super::*;

    #[test]
    fn families_follow_each_other_with_their_lengths() {
        let mut histogram = hdrhistogram::Histogram::new_with_bounds(1, 1_000_000, 2).unwrap();
        for value in [10, 100, 100, 5_000] {
            histogram.record(value).unwrap();
        }
        let mut families = Families::default();
        families.family("c", Kind::Counter, "Counted.");
        families.sample(&[("api", "a")], 7.0);
        families.family("g", Kind::Gauge, "Measured.");
        families.sample(&[], 0.0);
        families.family("t", Kind::Histogram, "Time.");
        families.histogram(&[], &histogram, 5_210, &[50, 1_000], 1e-6);
        let encoded = families.encode(Format::Protobuf);
        let mut rest = encoded.as_slice();
        let mut next = || MetricFamily::decode_length_delimited(&mut rest).unwrap();
        let (counter, gauge, times) = (next(), next(), next());
        assert!(rest.is_empty());
        assert_eq!((counter.name(), counter.kind()), ("c", MetricType::Counter));
        assert_eq!(counter.metric[0].counter.as_ref().unwrap().value(), 7.0);
        assert_eq!(counter.metric[0].label[0].value(), "a");
        assert_eq!((gauge.kind(), gauge.metric[0].gauge.as_ref().unwrap().value()), (MetricType::Gauge, 0.0));
        let times = times.metric[0].histogram.clone().unwrap();
        assert_eq!((times.sample_count(), times.bucket.len(), times.schema()), (4, 2, SCHEMA));
        assert_eq!(times.bucket[1].cumulative_count(), 3);
        let counts = times.positive_delta.iter().scan(0, |count, delta| {
            *count += delta;
            Some(*count)
        });
        assert_eq!(counts.sum::<i64>(), 4);
    }
}
