//! The report as one HTML file: what was run, the table, the curves. No scripts, nothing fetched.

use std::fmt::Write;

use super::svg::{Bar, Chart, Line, Scale, bars, chart, escape};
use super::{Report, Run, table};
use crate::units::{short, time};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:920px;margin:2em auto;padding:0 1em;color:#111}\
pre{background:#f4f4f5;padding:1em;overflow-x:auto;font-size:12px}svg{width:100%;margin:1em 0;font:12px system-ui,sans-serif}\
.grid{stroke:#e4e4e7}.y{text-anchor:end}.x{text-anchor:middle}.title{font-weight:600;font-size:14px}\
.bad{background:#fee2e2;padding:.6em 1em}dt{font-weight:600}dd{margin:0 0 .4em 0}";

/// A page with this title around a body.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{body}</html>\n"
    )
}

/// What was run where.
pub fn facts(report: &Report) -> String {
    let m = &report.machine;
    let memory = m.memory_bytes >> 30;
    let rows = [
        ("Command", report.command.clone()),
        ("Started", report.started.clone()),
        ("Broker", format!("{}, topic {}", report.broker, report.topic)),
        ("Machine", format!("{}, {} cores, {memory} GiB, Linux {}, {}", m.cpu, m.cores, m.kernel, m.host)),
        ("weir-perf", format!("{}{}", m.weir_perf, if m.debug_build { " (debug build)" } else { "" })),
    ];
    let mut out = String::from("<dl>");
    rows.iter().for_each(|(name, value)| {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(value));
    });
    out + "</dl>"
}

pub fn of_run(run: &Run) -> String {
    let report = &run.report;
    let mut body = format!("<p>{}</p>", escape(&report.workload.about));
    report.problems.iter().for_each(|p| {
        let _ = write!(body, "<p class=\"bad\">{}</p>", escape(p));
    });
    body += &facts(report);
    let _ = write!(body, "<pre>{}</pre>", escape(&table::of(report)));
    body += &percentiles(run);
    body += &over_time(report);
    if !report.stages.is_empty() {
        let bar = |s: &super::Stage| Bar {
            name: format!("{} {}", s.api, s.stage),
            value: s.mean_us,
            interval: None,
            text: format!("{} on average, p99 ≤ {}", time(s.mean_us * 1e3), time(s.p99_us * 1e3)),
        };
        let stages: Vec<Bar> = report.stages.iter().map(bar).collect();
        body += &bars("Where the broker's time went, mean of each stage", &stages, None);
    }
    if let Ok(text) = toml::to_string(&report.workload) {
        let _ = write!(body, "<h2>Workload</h2><pre>{}</pre>", escape(&text));
    }
    page(&format!("weir-perf: {}", report.workload.name), &body)
}

fn percentiles(run: &Run) -> String {
    let line = |(side, histogram): (&super::Side, &hdrhistogram::Histogram<u64>)| {
        let point = |v: hdrhistogram::iterators::IterationValue<u64>| {
            let rest = 1.0 - v.quantile_iterated_to();
            let most = histogram.len().max(10) as f64;
            ((1.0 / rest.max(1.0 / most)).min(most), v.value_iterated_to() as f64)
        };
        Line { name: side.name.clone(), points: histogram.iter_quantiles(4).map(point).collect() }
    };
    let lines: Vec<Line> =
        run.report.sides.iter().zip(&run.totals).filter(|(_, h)| !h.is_empty()).map(line).collect();
    if lines.is_empty() {
        return String::new();
    }
    let percent = |x: f64| match 100.0 - 100.0 / x {
        p if x <= 1.0 || p <= 0.0 => "0 %".to_owned(),
        p => format!("{:.*} %", (x.log10().round() as usize).saturating_sub(2), p),
    };
    chart(&Chart {
        title: "Latency by percentile",
        x_label: "share of records that were faster",
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        x_text: &percent,
        y_text: &|y| time(y),
        lines: &lines,
    })
}

fn over_time(report: &Report) -> String {
    let seconds = || report.series.iter().filter(|s| s.at > 0);
    let per_side = |value: &dyn Fn(&super::SideSecond) -> f64, suffix: &str| -> Vec<Line> {
        let sides = report.sides.iter().enumerate();
        sides
            .map(|(nth, side)| Line {
                name: format!("{}{suffix}", side.name),
                points: seconds().filter_map(|s| Some((s.at as f64, value(s.sides.get(nth)?)))).collect(),
            })
            .collect()
    };
    let draw = |title: &str, lines: &[Line], y_scale: Scale, y_text: &dyn Fn(f64) -> String| {
        let x_text: &dyn Fn(f64) -> String = &|x| format!("{x:.0}");
        let (x_scale, x_label) = (Scale::Linear, "seconds");
        chart(&Chart { title, x_label, x_scale, y_scale, x_text, y_text, lines })
    };
    let mut out = draw("Records a second", &per_side(&|s| s.records as f64, ""), Scale::Linear, &short);
    let mut latencies = per_side(&|s| s.p50_us * 1e3, " p50");
    latencies.extend(per_side(&|s| s.p99_us * 1e3, " p99"));
    out += &draw("Latency over time", &latencies, Scale::Log, &time);
    let own = Line {
        name: "generator".to_owned(),
        points: seconds().map(|s| (s.at as f64, s.own_cores)).collect(),
    };
    let broker: Vec<_> = seconds().filter_map(|s| Some((s.at as f64, s.broker_cores?))).collect();
    let mut lines = vec![own];
    if !broker.is_empty() {
        lines.push(Line { name: "broker".to_owned(), points: broker });
    }
    out += &draw("CPU, cores", &lines, Scale::Linear, &|y| format!("{y:.1}"));
    let resident: Vec<_> = seconds().filter_map(|s| Some((s.at as f64, s.resident_bytes? as f64))).collect();
    if !resident.is_empty() {
        let lines = [Line { name: "broker".to_owned(), points: resident }];
        out += &draw("Resident memory", &lines, Scale::Linear, &|y| {
            format!("{:.0} MiB", y / f64::from(1 << 20))
        });
    }
    out
}
