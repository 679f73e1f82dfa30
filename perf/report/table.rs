//! A run for people who look at a terminal.

use std::fmt::Write;

use super::{Latency, Report};
use crate::units::{short, time};

pub fn of(report: &Report) -> String {
    let mut out = String::new();
    let w = &report.workload;
    let _ = writeln!(out, "{} on {} ({:.0} s): {}", w.name, report.broker, report.seconds, w.about);
    let _ = writeln!(
        out,
        "{:<12} {:>11} {:>11} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10}  latency",
        "", "records/s", "requests/s", "MB/s", "p50", "p99", "p99.9", "p99.99", "max"
    );
    for side in &report.sides {
        let l = &side.latency_us;
        let _ = write!(out, "{:<12}", side.name);
        let _ = write!(out, " {:>11}", short(side.records_per_second));
        let _ = write!(out, " {:>11}", short(side.requests_per_second));
        let _ = write!(out, " {:>9.1}", side.mb_per_second);
        for value in [l.p50, l.p99, l.p99_9, l.p99_99, l.max] {
            let _ = write!(out, " {:>10}", time(value * 1e3));
        }
        let _ = writeln!(out, "  {}", side.latency_of);
    }
    if let Some(b) = &report.broker_use {
        let _ = writeln!(
            out,
            "broker       {:.2} cores: {:.3} µs a record, {:.1} µs a request, {:.2} ms a MB; {:.1} MiB resident",
            b.cores,
            b.us_per_record,
            b.us_per_request,
            b.ms_per_mb,
            b.resident_bytes as f64 / f64::from(1 << 20)
        );
    }
    let _ = write!(out, "generator    {:.2} cores", report.generator.cores);
    if report.generator.records_per_cpu_second > 0.0 {
        let _ = write!(out, ", {} records sent a CPU second", short(report.generator.records_per_cpu_second));
    }
    if report.generator.planned > 0 {
        let Latency { p50, p99, max, .. } = report.generator.lag_us;
        let [p50, p99, max] = [p50, p99, max].map(|us| time(us * 1e3));
        let _ = write!(out, "; late by p50 {p50}, p99 {p99}, max {max}");
    }
    let _ = writeln!(out);
    for s in &report.stages {
        let _ = writeln!(
            out,
            "stage        {:<10} {:<14} {:>10} times, mean {:>9}, p50 ≤ {:>9}, p99 ≤ {:>9}",
            s.api,
            s.stage,
            s.count,
            time(s.mean_us * 1e3),
            time(s.p50_us * 1e3),
            time(s.p99_us * 1e3)
        );
    }
    report.notes.iter().for_each(|n| {
        let _ = writeln!(out, "note         {n}");
    });
    report.problems.iter().for_each(|p| {
        let _ = writeln!(out, "INVALID      {p}");
    });
    out
}
