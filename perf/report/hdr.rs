//! HdrHistogram's own formats: `.hgrm` for its plotter, `.hlog` for tools that read a run interval by interval.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

/// Values are written in milliseconds, as HdrHistogram's tools expect.
const NANOS_IN_MS: f64 = 1e6;
/// Ticks for each halving of the distance to 100 %.
const TICKS: u32 = 5;

/// The percentile distribution as text.
pub fn hgrm(out: &mut dyn Write, histogram: &Histogram<u64>) -> io::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut count = 0;
    for v in histogram.iter_quantiles(TICKS) {
        let value = v.value_iterated_to() as f64 / NANOS_IN_MS;
        count += v.count_since_last_iteration();
        let quantile = v.quantile_iterated_to();
        match quantile < 1.0 {
            true => {
                writeln!(out, "{value:>12.3} {quantile:>2.12} {count:>10} {:>14.2}", 1.0 / (1.0 - quantile))?
            }
            false => writeln!(out, "{value:>12.3} {quantile:>2.12} {count:>10}")?,
        }
    }
    let (mean, deviation) = (histogram.mean() / NANOS_IN_MS, histogram.stdev() / NANOS_IN_MS);
    writeln!(out, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
    let (max, count) = (histogram.max() as f64 / NANOS_IN_MS, histogram.len());
    writeln!(out, "#[Max     = {max:>12.3}, Total count    = {count:>12}]")?;
    let buckets = (histogram.buckets(), histogram.distinct_values());
    writeln!(out, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", buckets.0, buckets.1)
}

/// One line an interval; values are nanoseconds, times seconds since the window's start.
pub fn hlog(
    out: &mut dyn Write,
    tag: &str,
    began: SystemTime,
    intervals: &[(i64, Histogram<u64>)],
) -> Result<(), String> {
    let mut serializer = V2DeflateSerializer::new();
    let mut out = out;
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("weir-perf, nanoseconds")
        .with_start_time(began)
        .with_base_time(began)
        .with_max_value_divisor(NANOS_IN_MS)
        .begin_log_with(&mut out, &mut serializer)
        .map_err(|e| e.to_string())?;
    let second = Duration::from_secs(1);
    for (end, histogram) in intervals.iter().filter(|(end, _)| *end > 0) {
        let start = Duration::from_nanos(*end as u64).saturating_sub(second);
        log.write_histogram(histogram, start, second, Tag::new(tag)).map_err(|e| format!("{e:?}"))?;
    }
    Ok(())
}
