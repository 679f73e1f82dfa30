//! Line charts and bars as SVG, for a report that needs nothing else.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 45.0;
const COLOURS: [&str; 6] = ["#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#475569"];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
}

pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

pub struct Chart<'a> {
    pub title: &'a str,
    pub x_label: &'a str,
    pub x_scale: Scale,
    pub y_scale: Scale,
    /// How values are written along the axes.
    pub x_text: &'a dyn Fn(f64) -> String,
    pub y_text: &'a dyn Fn(f64) -> String,
    pub lines: &'a [Line],
}

struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, scale: Scale, from: f64, to: f64) -> Axis {
        let usable = |v: &f64| v.is_finite() && (scale == Scale::Linear || *v > 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        values.filter(usable).for_each(|v| (low, high) = (low.min(v), high.max(v)));
        if !low.is_finite() {
            (low, high) = (1.0, 10.0);
        }
        match scale {
            Scale::Linear => {
                low = low.min(0.0);
                high = if high <= low { low + 1.0 } else { high };
            }
            Scale::Log => {
                low = 10f64.powf(low.log10().floor());
                high = 10f64.powf(high.log10().ceil()).max(low * 10.0);
            }
        }
        Axis { scale, low, high, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Log => {
                let decades = (self.low.log10().round() as i32)..=(self.high.log10().round() as i32);
                decades.map(|d| 10f64.powi(d)).collect()
            }
            Scale::Linear => {
                let rough = (self.high - self.low) / 5.0;
                let magnitude = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|s| *s >= rough);
                let step = step.unwrap_or(rough);
                let first = (self.low / step).ceil() as i64;
                (first..).map(|n| n as f64 * step).take_while(|v| *v <= self.high * 1.0001).collect()
            }
        }
    }
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub fn chart(chart: &Chart<'_>) -> String {
    let points = || chart.lines.iter().flat_map(|l| l.points.iter());
    let x = Axis::over(points().map(|p| p.0), chart.x_scale, LEFT, WIDTH - RIGHT);
    let y = Axis::over(points().map(|p| p.1), chart.y_scale, HEIGHT - BOTTOM, TOP);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    let _ = write!(out, "<text x=\"{LEFT}\" y=\"16\" class=\"title\">{}</text>", escape(chart.title));
    for tick in y.ticks() {
        let (at, right, label) = (y.at(tick), WIDTH - RIGHT, escape(&(chart.y_text)(tick)));
        let _ =
            write!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
        let _ = write!(out, "<text class=\"y\" x=\"{}\" y=\"{:.1}\">{label}</text>", LEFT - 6.0, at + 4.0);
    }
    for tick in x.ticks() {
        let (at, bottom, label) = (x.at(tick), HEIGHT - BOTTOM, escape(&(chart.x_text)(tick)));
        let _ =
            write!(out, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
        let _ = write!(out, "<text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>", bottom + 16.0);
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ = write!(
        out,
        "<text class=\"x\" x=\"{middle}\" y=\"{}\">{}</text>",
        HEIGHT - 8.0,
        escape(chart.x_label)
    );
    for (nth, line) in chart.lines.iter().enumerate() {
        let colour = COLOURS[nth % COLOURS.len()];
        let mut path = String::new();
        for (px, py) in line.points.iter().filter(|(_, py)| py.is_finite()) {
            let _ = write!(path, "{:.1},{:.1} ", x.at(*px), y.at(*py));
        }
        let _ = write!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" points=\"{path}\"/>"
        );
        if line.points.len() <= 40 {
            for (px, py) in line.points.iter().filter(|(_, py)| py.is_finite()) {
                let _ = write!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\" fill=\"{colour}\"/>",
                    x.at(*px),
                    y.at(*py)
                );
            }
        }
        let (lx, ly) = (WIDTH - RIGHT + 12.0, TOP + 14.0 + nth as f64 * 18.0);
        let _ =
            write!(out, "<rect x=\"{lx}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>", ly - 9.0);
        let _ = write!(out, "<text x=\"{}\" y=\"{ly}\">{}</text>", lx + 15.0, escape(&line.name));
    }
    out + "</svg>"
}

/// A bar and, where there is one, the interval that its end lies in.
pub struct Bar {
    pub name: String,
    pub value: f64,
    pub interval: Option<(f64, f64)>,
    pub text: String,
}

pub fn bars(title: &str, bars: &[Bar], reference: Option<f64>) -> String {
    let height = TOP + bars.len() as f64 * 24.0 + 12.0;
    let ends = bars.iter().map(|b| b.interval.map_or(b.value, |i| i.1)).chain(reference);
    let x = Axis::over(ends, Scale::Linear, 190.0, WIDTH - RIGHT);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    let _ = write!(out, "<text x=\"10\" y=\"16\" class=\"title\">{}</text>", escape(title));
    for (nth, bar) in bars.iter().enumerate() {
        let y = TOP + nth as f64 * 24.0;
        let (from, to) = (x.at(0.0), x.at(bar.value));
        let _ = write!(out, "<text class=\"y\" x=\"184\" y=\"{}\">{}</text>", y + 13.0, escape(&bar.name));
        let colour = COLOURS[0];
        let width = (to - from).max(0.0);
        let _ = write!(
            out,
            "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"16\" fill=\"{colour}\"/>"
        );
        let mut end = to;
        if let Some((low, high)) = bar.interval {
            let (low, high, at) = (x.at(low), x.at(high), y + 8.0);
            let _ = write!(
                out,
                "<line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{at}\" y2=\"{at}\" stroke=\"#111\" stroke-width=\"2\"/>"
            );
            end = high.max(to);
        }
        let _ = write!(out, "<text x=\"{:.1}\" y=\"{}\">{}</text>", end + 6.0, y + 13.0, escape(&bar.text));
    }
    if let Some(value) = reference {
        let (at, bottom) = (x.at(value), height - 8.0);
        let _ = write!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#dc2626\" stroke-dasharray=\"4 3\"/>"
        );
    }
    out + "</svg>"
}
