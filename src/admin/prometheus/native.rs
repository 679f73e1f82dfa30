//! Native histograms: exponential buckets, of which only those that hold something are sent.
//!
//! Bucket `i` of schema `s` holds the values in `(2^((i-1)/2^s), 2^(i/2^s)]`. Runs of buckets are spans; each count is
//! sent as its difference to the one before. Prometheus, "Native Histograms" (specification 1.0).

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Eight buckets for each doubling: bounds 9 % apart.
pub const SCHEMA: i32 = 3;
/// Values at or below are in the zero bucket: what client libraries use.
pub const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;
/// Empty buckets that cost less inside a span than a new span would.
const MAX_GAP: i32 = 2;

pub struct Buckets {
    pub zero_count: u64,
    /// The distance to the bucket after the span before (the first one's: to bucket 0), and how many buckets.
    pub spans: Vec<(i32, u32)>,
    pub deltas: Vec<i64>,
}

impl Buckets {
    /// Of a histogram of integers that are worth `unit` each.
    pub fn of(histogram: &Histogram<u64>, unit: f64) -> Self {
        let (mut zero_count, mut counts) = (0, BTreeMap::<i32, i64>::new());
        for value in histogram.iter_recorded() {
            let count = value.count_since_last_iteration();
            match histogram.median_equivalent(value.value_iterated_to()) {
                0 => zero_count += count,
                median => *counts.entry(bucket(median as f64 * unit)).or_default() += count as i64,
            }
        }
        let (mut spans, mut deltas) = (Vec::<(i32, u32)>::new(), Vec::new());
        let (mut next, mut before) = (0, 0);
        for (index, count) in counts {
            let gap = index - next;
            match spans.last_mut().filter(|_| gap <= MAX_GAP) {
                Some((_, length)) => {
                    *length += gap as u32 + 1;
                    for _ in 0..gap {
                        deltas.push(-before);
                        before = 0;
                    }
                }
                None => spans.push((gap, 1)),
            }
            deltas.push(count - before);
            (next, before) = (index + 1, count);
        }
        Self { zero_count, spans, deltas }
    }
}

fn bucket(value: f64) -> i32 {
    (value.log2() * f64::from(1 << SCHEMA)).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The buckets' counts by index.
    fn unpacked(buckets: &Buckets) -> Vec<(i32, i64)> {
        let (mut out, mut deltas) = (Vec::new(), buckets.deltas.iter());
        let (mut index, mut count) = (0, 0);
        for (offset, length) in &buckets.spans {
            index += offset;
            for _ in 0..*length {
                count += deltas.next().unwrap();
                out.push((index, count));
                index += 1;
            }
        }
        assert!(deltas.next().is_none());
        out.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn a_bound_is_in_the_bucket_that_it_ends() {
        assert_eq!([0.5, 1.0, 1.01, 1.0905, 1.0906, 2.0, 2.01].map(bucket), [-8, 0, 1, 1, 2, 8, 9]);
    }

    #[test]
    fn every_value_is_in_its_bucket_and_gaps_split_spans() {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        for (value, times) in [(0, 2), (90, 3), (100, 5), (118, 1), (7_000, 4), (5_000_000, 9)] {
            histogram.record_n(value, times).unwrap();
        }
        let buckets = Buckets::of(&histogram, 1e-6);
        assert_eq!(buckets.zero_count, 2);
        assert_eq!(buckets.spans.len(), 3, "{:?}", buckets.spans);
        let wanted = [(90e-6, 3), (100e-6, 5), (118e-6, 1), (7e-3, 4), (5.0, 9)];
        assert_eq!(unpacked(&buckets), wanted.map(|(value, count)| (bucket(value), count)));
    }

    #[test]
    fn nothing_recorded_is_no_bucket() {
        let buckets = Buckets::of(&Histogram::new(2).unwrap(), 1.0);
        assert!(buckets.spans.is_empty() && buckets.deltas.is_empty() && buckets.zero_count == 0);
    }
}
