//! The text format: HELP and TYPE once a family, a line for each sample.

use std::fmt::Write;

use super::{Family, Kind, Sample, Value};

pub fn encode(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(out, "# HELP {0} {1}\n# TYPE {0} {kind}", family.name, family.help);
        for sample in &family.samples {
            lines(&mut out, family.name, sample);
        }
    }
    out
}

fn lines(out: &mut String, name: &str, sample: &Sample) {
    let mut line = |suffix: &str, le: Option<&str>, value: f64| {
        let _ = write!(out, "{name}{suffix}");
        let own = sample.labels.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let mut separator = '{';
        for (name, text) in own.chain(le.map(|le| ("le", le))) {
            let _ = write!(out, "{separator}{name}=\"{}\"", escape(text));
            separator = ',';
        }
        if separator == ',' {
            out.push('}');
        }
        let _ = writeln!(out, " {}", number(value));
    };
    match &sample.value {
        Value::Number(value) => line("", None, *value),
        Value::Distribution(d) => {
            for (bound, below) in &d.classic {
                line("_bucket", Some(&number(*bound)), *below as f64);
            }
            line("_bucket", Some("+Inf"), d.count as f64);
            line("_sum", None, d.sum);
            line("_count", None, d.count as f64);
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// At most nine digits after the point, so that 50 µs reads 0.00005.
fn number(value: f64) -> String {
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::super::{Families, Format};
    use super::*;

    #[test]
    fn numbers_are_plain() {
        for (value, text) in [(0.0, "0"), (100.0, "100"), (0.00005, "0.00005"), (1e12, "1000000000000")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn histograms_are_cumulative_and_end_in_inf() {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000, 2).unwrap();
        for value in [10, 100, 100, 5_000, 900_000] {
            histogram.record(value).unwrap();
        }
        let mut families = Families::default();
        families.family("t", Kind::Histogram, "Time.");
        families.histogram(&[("api", "a\"b")], &histogram, 905_210, &[50, 100, 10_000], 1e-6);
        let expected = "# HELP t Time.\n# TYPE t histogram\n\
            t_bucket{api=\"a\\\"b\",le=\"0.00005\"} 1\n\
            t_bucket{api=\"a\\\"b\",le=\"0.0001\"} 3\n\
            t_bucket{api=\"a\\\"b\",le=\"0.01\"} 4\n\
            t_bucket{api=\"a\\\"b\",le=\"+Inf\"} 5\n\
            t_sum{api=\"a\\\"b\"} 0.90521\n\
            t_count{api=\"a\\\"b\"} 5\n";
        assert_eq!(String::from_utf8(families.encode(Format::Text)).unwrap(), expected);
    }
}
