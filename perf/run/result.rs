//! The end of a run: what the threads counted becomes a report, and the report a verdict.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{Place, Running, SECOND, Usage};
use crate::Outcome;
use crate::engine::consumer::Consumed;
use crate::engine::meter::{Role, Tally, histogram};
use crate::engine::plan::Produced;
use crate::process::resident_bytes;
use crate::report::{self, BrokerUse, Generator, Latency, Report, Run, Second, Side, SideSecond, machine};
use crate::units::time;
use crate::workload::{From, Mode};
use weir::client::stages;

impl Running {
    pub(super) fn report(
        self,
        place: &Place,
        produced: &[Produced],
        consumed: &[Consumed],
        mut problems: Vec<String>,
    ) -> Outcome<Run> {
        let seconds = self.plan.workload.duration.as_secs();
        let (mut sides, mut totals) = (Vec::new(), Vec::new());
        let mut sum = Tally::new();
        for role in &self.roles {
            let mut total = Tally::new();
            match role {
                Role::Produce => produced.iter().for_each(|p| total.add(&p.total)),
                Role::Consume(entry) => {
                    consumed.iter().filter(|c| c.entry == *entry).for_each(|c| total.add(&c.total));
                }
            }
            sides.push(Side::of(self.name(*role), self.latency_of(*role), &total, seconds));
            (sum.requests, sum.records, sum.bytes) =
                (sum.requests + total.requests, sum.records + total.records, sum.bytes + total.bytes);
            totals.push(total.latency);
        }
        let mut errors: BTreeMap<i16, u64> = BTreeMap::new();
        let all = produced.iter().map(|p| &p.errors).chain(consumed.iter().map(|c| &c.errors));
        all.flatten().for_each(|(code, n)| *errors.entry(*code).or_default() += n);
        let named =
            |(code, n): (&i16, &u64)| format!("the broker answered {} {n} times", report::error_name(*code));
        problems.extend(errors.iter().map(named));
        let mut generator = self.generator(produced, seconds);
        let mut notes = Vec::new();
        let sound = problems.is_empty();
        let behind = self.judge(produced, &sides, &generator, &mut notes);
        generator.behind = sound && !behind.is_empty();
        problems.extend(behind);
        let broker_use = self.edges[1].broker.zip(self.edges[0].broker).map(|(after, before)| {
            let cpu = after - before;
            BrokerUse {
                cores: cpu / seconds,
                us_per_record: cpu * 1e6 / sum.records.max(1) as f64,
                us_per_request: cpu * 1e6 / sum.requests.max(1) as f64,
                ms_per_mb: cpu * 1e3 / (sum.bytes.max(1) as f64 / 1e6),
                resident_bytes: place.pid.and_then(resident_bytes).unwrap_or(0),
            }
        });
        let report = Report {
            command: machine::command_line(),
            started: machine::now(),
            broker: place.broker.clone(),
            topic: self.plan.target.topic.clone(),
            workload: self.plan.workload.clone(),
            machine: machine::describe(),
            seconds,
            valid: problems.is_empty(),
            problems,
            notes,
            sides,
            generator,
            broker_use,
            stages: stages::between(&self.stages[0], &self.stages[1]),
            series: self.series(),
        };
        Ok(Run { report, totals, intervals: self.intervals_by_side() })
    }

    fn latency_of(&self, role: Role) -> &'static str {
        match role {
            Role::Produce if self.plan.workload.mode == Mode::Open => "intended time to acknowledgement",
            Role::Produce => "request to acknowledgement",
            Role::Consume(entry) if self.plan.workload.consumer[entry].from == From::Tail => {
                "intended time to arrival"
            }
            Role::Consume(_) => "fetch to answer",
        }
    }

    fn generator(&self, produced: &[Produced], seconds: f64) -> Generator {
        let mut lag = histogram();
        produced.iter().for_each(|p| lag.add(&p.lag).expect("all histograms have the same bounds"));
        Generator {
            behind: false,
            cores: (self.edges[1].own - self.edges[0].own) / seconds,
            planned: produced.iter().map(|p| p.planned).sum(),
            records_per_cpu_second: produced.iter().map(|p| p.acknowledged as f64).sum::<f64>()
                / produced.iter().map(|p| p.cpu).sum::<f64>().max(0.001),
            lag_us: Latency::of(&lag),
        }
    }

    /// What the generator did not keep of its schedule; what the broker did not keep up with goes to the notes.
    fn judge(
        &self,
        produced: &[Produced],
        sides: &[Side],
        generator: &Generator,
        notes: &mut Vec<String>,
    ) -> Vec<String> {
        let w = &self.plan.workload;
        let mut behind = Vec::new();
        if cfg!(debug_assertions) {
            notes.push("weir-perf was built without --release".to_owned());
        }
        if w.mode != Mode::Open || produced.is_empty() {
            return behind;
        }
        let overloaded = produced.iter().any(|p| p.overloaded);
        let (lag, limit) = (generator.lag_us.p99, w.max_lag.nanos() as f64 / 1e3);
        if lag > limit && !overloaded {
            behind.push(format!(
                "the generator fell behind its own schedule (p99 {}, allowed {}): latencies are not the broker's",
                time(lag * 1e3),
                w.max_lag
            ));
        }
        let planned = w.rate * w.duration.as_secs();
        if (generator.planned as f64) < planned * 0.97 && !overloaded {
            behind.push(format!("the generator drew {} of {planned:.0} planned records", generator.planned));
        }
        let achieved = sides.first().map_or(0.0, |s| s.records_per_second) / w.rate;
        if overloaded {
            notes.push("the broker fell so far behind that records were given up".to_owned());
        }
        if overloaded || achieved < 0.98 {
            let kept = achieved * 100.0;
            notes.push(format!("the broker kept {kept:.0} % of the rate: queueing dominates the latencies"));
        }
        behind
    }

    fn series(&self) -> Vec<Second> {
        let one = |(at, (second, _)): (&i64, &(Second, Usage))| {
            let side = |tally: &Tally| SideSecond {
                records: tally.records,
                mb: tally.bytes as f64 / 1e6,
                p50_us: tally.latency.value_at_quantile(0.5) as f64 / 1e3,
                p99_us: tally.latency.value_at_quantile(0.99) as f64 / 1e3,
                max_us: tally.latency.max() as f64 / 1e3,
            };
            let empty = || vec![SideSecond::default(); self.roles.len()];
            let sides = self.seconds.get(at).map_or_else(empty, |row| row.iter().map(side).collect());
            Second { sides, ..second.clone() }
        };
        self.usage.iter().map(one).collect()
    }

    fn intervals_by_side(&self) -> Vec<Vec<(i64, Histogram<u64>)>> {
        let of = |nth: usize| {
            let rows = self.seconds.iter();
            rows.map(|(at, row)| (at * SECOND as i64, row[nth].latency.clone())).collect()
        };
        (0..self.roles.len()).map(of).collect()
    }
}
