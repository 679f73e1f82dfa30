//! The Prometheus text format: families with HELP and TYPE once, samples with labels, classic histograms.

use std::fmt::Write;

use hdrhistogram::Histogram;

#[derive(Clone, Copy)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Text under construction. A family's samples must follow its `family` call at once.
#[derive(Default)]
pub struct Text {
    out: String,
    name: &'static str,
}

impl Text {
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, None, value);
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
        for bound in bounds {
            // A value within the histogram's precision of the bound counts as at the bound.
            while recorded
                .peek()
                .is_some_and(|v| histogram.lowest_equivalent(v.value_iterated_to()) <= *bound)
            {
                below += recorded.next().map_or(0, |v| v.count_since_last_iteration());
            }
            self.line("_bucket", labels, Some(&number(*bound as f64 * unit)), below as f64);
        }
        self.line("_bucket", labels, Some("+Inf"), histogram.len() as f64);
        self.line("_sum", labels, None, sum as f64 * unit);
        self.line("_count", labels, None, histogram.len() as f64);
    }

    pub fn finish(self) -> String {
        self.out
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], le: Option<&str>, value: f64) {
        let _ = write!(self.out, "{}{suffix}", self.name);
        let all = labels.iter().copied().chain(le.map(|le| ("le", le)));
        let mut separator = '{';
        for (name, text) in all {
            let _ = write!(self.out, "{separator}{name}=\"{}\"", escape(text));
            separator = ',';
        }
        if separator == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {}", number(value));
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
        let mut text = Text::default();
        text.family("t", Kind::Histogram, "Time.");
        text.histogram(&[("api", "a\"b")], &histogram, 905_210, &[50, 100, 10_000], 1e-6);
        let expected = "# HELP t Time.\n# TYPE t histogram\n\
            t_bucket{api=\"a\\\"b\",le=\"0.00005\"} 1\n\
            t_bucket{api=\"a\\\"b\",le=\"0.0001\"} 3\n\
            t_bucket{api=\"a\\\"b\",le=\"0.01\"} 4\n\
            t_bucket{api=\"a\\\"b\",le=\"+Inf\"} 5\n\
            t_sum{api=\"a\\\"b\"} 0.90521\n\
            t_count{api=\"a\\\"b\"} 5\n";
        assert_eq!(text.finish(), expected);
    }
}
