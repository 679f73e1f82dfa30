//! One run: the topic, the threads, the seconds going by, the verdict.

mod result;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use weir::client::OffsetAt;

use crate::Outcome;
use crate::engine::consumer::{self, Consumed, Group};
use crate::engine::members::Team;
use crate::engine::meter::{Interval, Meter, Role, Tally, histogram};
use crate::engine::plan::{Plan, Produced};
use crate::engine::{closed, open};
use crate::process::{cpu_seconds, resident_bytes};
use crate::report::{Run, Second};
use crate::topics::{Broker, fresh_name};
use crate::units::{short, time};
use crate::workload::{From, Mode, Verify, Workload};
use weir::client::stages;

const SECOND: u64 = 1_000_000_000;

/// Where and how to run a workload.
#[derive(Clone, Debug)]
pub struct Place {
    pub broker: String,
    pub topic: Option<String>,
    pub pid: Option<u32>,
    pub admin: Option<String>,
    pub progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    None,
    /// One line that is written over, when standard error is a terminal.
    Live,
    /// A line every so many seconds.
    Every(u64),
}

/// Runs a workload on a topic of its own, unless one is named.
pub fn run(place: &Place, workload: &Workload) -> Outcome<Run> {
    let mut workload = workload.clone();
    let mut broker = Broker::connect(&place.broker)?;
    let topic = place.topic.clone().unwrap_or_else(|| fresh_name(&workload.name));
    match (&place.topic, workload.producer.count) {
        // Whoever only reads takes the topic as it is.
        (Some(topic), 0) => workload.topic.partitions = broker.partitions(topic)?,
        _ => broker.ensure(&topic, &workload.topic)?,
    }
    let outcome = on_topic(place, &mut broker, &topic, workload);
    if place.topic.is_none() {
        let deleted = broker.delete(&topic);
        if outcome.is_ok() {
            deleted?;
        }
    }
    outcome
}

fn on_topic(place: &Place, broker: &mut Broker, topic: &str, mut workload: Workload) -> Outcome<Run> {
    let checked = |c: &crate::workload::Consumer| c.from == From::Tail && c.verify == Verify::Records;
    if workload.consumer.iter().any(checked) {
        // Prepared batches repeat; only fresh ones can be told apart.
        workload.producer.prebuilt = false;
    }
    let target = broker.target(topic)?;
    let fill = workload.consumer.iter().map(|c| c.fill.0).max().unwrap_or(0);
    if fill > 0 {
        broker.fill(topic, &crate::fill::batch(&workload)?, fill)?;
    }
    if workload.mode == Mode::Saturation && workload.producer.prebuilt && workload.producer.count > 0 {
        let plan = Plan::new(workload.clone(), target.clone(), Vec::new());
        let meter = Meter::new(Role::Produce, mpsc::channel().0, plan.window);
        closed::touch(&plan, meter)?;
    }
    let (beginning, end) =
        (broker.offsets(topic, OffsetAt::Beginning)?, broker.offsets(topic, OffsetAt::End)?);
    let mut ids = Vec::new();
    if workload.producer.idempotent && workload.mode == Mode::Open {
        for _ in 0..workload.producer.count {
            ids.push(broker.producer_id()?);
        }
    }
    let mut teams = Vec::new();
    let groups = groups(&workload, (&place.broker, topic), (&beginning, &end), &mut teams)?;
    let plan = Arc::new(Plan::new(workload, target, ids));
    let mut run = Running::start(plan, groups, place).finish(place)?;
    disband(teams, &place.broker, &mut run);
    Ok(run)
}

fn groups(
    workload: &Workload,
    (address, topic): (&str, &str),
    (beginning, end): (&[i64], &[i64]),
    teams: &mut Vec<Team>,
) -> Outcome<Vec<Arc<Group>>> {
    let entries = workload.consumer.iter().enumerate();
    let group = |(entry, spec): (usize, &crate::workload::Consumer)| {
        let (start, turn) = match spec.from {
            From::Tail => (end.to_vec(), Vec::new()),
            From::Beginning => (beginning.to_vec(), end.to_vec()),
        };
        if spec.from == From::Beginning && beginning.iter().zip(end).any(|(b, e)| b >= e) {
            return Err(
                "a partition is empty; `--set consumer.fill=64MiB` fills it before reading".to_owned()
            );
        }
        let seen = std::iter::repeat_with(Default::default).take(spec.fan_out).collect();
        let mut group = Group {
            entry,
            spec: spec.clone(),
            start,
            end: turn,
            seen,
            assigned: Vec::new(),
            positions: Vec::new(),
        };
        for reading in 0..if spec.group { spec.fan_out } else { 0 } {
            let positions: Arc<[AtomicI64]> = group.start.iter().map(|o| AtomicI64::new(*o)).collect();
            let name = format!("{topic}-{entry}-{reading}");
            let team = Team::join(address, &name, topic, spec.count, positions.clone())?;
            group.assigned.push(team.assigned.clone());
            group.positions.push(positions);
            teams.push(team);
        }
        Ok(Arc::new(group))
    };
    entries.map(group).collect()
}

/// Ends the groups. What went wrong in one is a problem of the run; how long commits took is worth a note.
fn disband(mut teams: Vec<Team>, address: &str, run: &mut Run) {
    let mut commits = histogram();
    for team in &mut teams {
        let outcome = team.disband().and_then(|took| {
            commits.add(&took).expect("all histograms have the same bounds");
            team.check_committed(address)
        });
        if let Err(problem) = outcome {
            run.report.problems.push(problem);
            run.report.valid = false;
        }
    }
    if !commits.is_empty() {
        let at = |q| time(commits.value_at_quantile(q) as f64);
        let (p50, p99) = (at(0.5), at(0.99));
        run.report.notes.push(format!("{} offset commits took p50 {p50}, p99 {p99}", commits.len()));
    }
}

/// CPU and memory at a moment.
#[derive(Clone, Copy, Default)]
struct Usage {
    broker: Option<f64>,
    own: f64,
}

impl Usage {
    fn now(pid: Option<u32>) -> Usage {
        Usage { broker: pid.and_then(cpu_seconds), own: cpu_seconds(std::process::id()).unwrap_or(0.0) }
    }
}

struct Running {
    plan: Arc<Plan>,
    groups: Vec<Arc<Group>>,
    producers: Vec<JoinHandle<Outcome<Produced>>>,
    consumers: Vec<JoinHandle<Outcome<Consumed>>>,
    intervals: Receiver<Interval>,
    roles: Vec<Role>,
    /// By second relative to the window's start, by role.
    seconds: BTreeMap<i64, Vec<Tally>>,
    usage: BTreeMap<i64, (Second, Usage)>,
    edges: [Usage; 2],
    stages: [Option<stages::Snapshot>; 2],
}

impl Running {
    fn start(plan: Arc<Plan>, groups: Vec<Arc<Group>>, place: &Place) -> Running {
        let (out, intervals) = mpsc::channel();
        let (mut producers, mut consumers, mut roles) = (Vec::new(), Vec::new(), Vec::new());
        let spec = &plan.workload.producer;
        let sends = spec.count > 0 && plan.workload.mode != Mode::Idle;
        if sends {
            roles.push(Role::Produce);
        }
        for group in &groups {
            let role = Role::Consume(group.entry);
            roles.push(role);
            for nth in 0..group.spec.threads {
                let (plan, group) = (plan.clone(), group.clone());
                let meter = Meter::new(role, out.clone(), plan.window);
                consumers.push(thread::spawn(move || {
                    let outcome = consumer::run(&plan, group, nth, meter);
                    guard(&plan, outcome)
                }));
            }
        }
        for nth in 0..if sends { spec.threads } else { 0 } {
            let (plan, meter) = (plan.clone(), Meter::new(Role::Produce, out.clone(), plan.window));
            producers.push(thread::spawn(move || {
                let outcome = match plan.workload.mode {
                    Mode::Saturation => closed::run(&plan, nth, meter),
                    _ => open::run(&plan, nth, meter),
                };
                guard(&plan, outcome)
            }));
        }
        let edges = [Usage::now(place.pid); 2];
        let (seconds, usage, stages) = (BTreeMap::new(), BTreeMap::new(), [None, None]);
        Running { plan, groups, producers, consumers, intervals, roles, seconds, usage, edges, stages }
    }

    /// Watches until the window is over, then waits for the threads.
    fn finish(mut self, place: &Place) -> Outcome<Run> {
        let (start, end) = self.plan.window;
        let mut next = start % SECOND;
        let mut before = Usage::now(place.pid);
        while next <= end && !self.plan.shared.aborted() {
            self.plan.clock.sleep_until(next);
            let now = Usage::now(place.pid);
            let at = (next as i64 - start as i64) / SECOND as i64;
            if next == start {
                self.edges[0] = now;
                self.stages[0] = place.admin.as_deref().and_then(|a| stages::scrape(a).ok());
            }
            let second = Second {
                at,
                broker_cores: now.broker.zip(before.broker).map(|(n, b)| n - b),
                own_cores: now.own - before.own,
                resident_bytes: place.pid.and_then(resident_bytes),
                ..Second::default()
            };
            self.usage.insert(at, (second, now));
            self.collect();
            self.show(place.progress, at - 1);
            before = now;
            next = if next < end && next + SECOND > end { end } else { next + SECOND };
        }
        self.edges[1] = Usage::now(place.pid);
        self.stages[1] = place.admin.as_deref().and_then(|a| stages::scrape(a).ok());
        if place.progress == Progress::Live && std::io::stderr().is_terminal() {
            note_part!("\r\x1b[K");
        }
        self.conclude(place)
    }

    fn collect(&mut self) {
        while let Ok(interval) = self.intervals.try_recv() {
            let at = (interval.end as i64 - self.plan.window.0 as i64).div_euclid(SECOND as i64);
            let roles = self.roles.len();
            let row = self.seconds.entry(at).or_insert_with(|| vec![Tally::new(); roles]);
            if let Some(nth) = self.roles.iter().position(|r| *r == interval.role) {
                row[nth].add(&interval.tally);
            }
        }
    }

    fn show(&self, progress: Progress, at: i64) {
        let live = progress == Progress::Live && std::io::stderr().is_terminal();
        let due = matches!(progress, Progress::Every(n) if at > 0 && at % n as i64 == 0);
        if !live && !due {
            return;
        }
        let mut line = format!("{at:>4} s");
        for (nth, role) in self.roles.iter().enumerate() {
            let Some(tally) = self.seconds.get(&at).map(|row| &row[nth]) else { continue };
            let [p50, p99] = [0.5, 0.99].map(|q| time(tally.latency.value_at_quantile(q) as f64));
            let records = short(tally.records as f64);
            line += &format!(" | {} {records} rec/s, p50 {p50}, p99 {p99}", self.name(*role));
        }
        if let Some((second, _)) = self.usage.get(&at) {
            let broker = second.broker_cores.map_or(String::new(), |c| format!("broker {c:.2} cores, "));
            let resident = second.resident_bytes.map_or(String::new(), |b| format!(", {} MiB", b >> 20));
            line += &format!(" | {broker}own {:.2}{resident}", second.own_cores);
        }
        match live {
            true => note_part!("\r\x1b[K{line}"),
            false => note!("{line}"),
        }
    }

    fn name(&self, role: Role) -> &str {
        match role {
            Role::Produce => "producers",
            Role::Consume(entry) => &self.plan.workload.consumer[entry].name,
        }
    }

    fn conclude(mut self, place: &Place) -> Outcome<Run> {
        let joined =
            |thread: JoinHandle<_>| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()));
        let produced: Vec<Outcome<Produced>> =
            std::mem::take(&mut self.producers).into_iter().map(joined).collect();
        let acknowledged = produced.iter().flatten().map(|p| p.acknowledged).sum();
        self.plan.shared.acknowledged.store(acknowledged, Ordering::Relaxed);
        self.plan.shared.produced.store(true, Ordering::Release);
        let joined =
            |thread: JoinHandle<_>| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()));
        let consumed: Vec<Outcome<Consumed>> =
            std::mem::take(&mut self.consumers).into_iter().map(joined).collect();
        self.collect();
        let mut problems = Vec::new();
        let mut keep = |outcome: Option<String>| problems.extend(outcome);
        let produced: Vec<Produced> =
            produced.into_iter().filter_map(|p| p.map_err(|e| keep(Some(e))).ok()).collect();
        let consumed: Vec<Consumed> =
            consumed.into_iter().filter_map(|c| c.map_err(|e| keep(Some(e))).ok()).collect();
        problems.dedup();
        if problems.is_empty() {
            problems.extend(self.excess(acknowledged));
        }
        self.report(place, &produced, &consumed, problems)
    }

    /// Records that arrived more often than they were acknowledged.
    fn excess(&self, acknowledged: u64) -> Vec<String> {
        let tail = self.groups.iter().filter(|g| g.spec.from == From::Tail && acknowledged > 0);
        let more = |g: &Arc<Group>| {
            let most = g.seen.iter().map(|n| n.load(Ordering::Relaxed)).max().unwrap_or(0);
            let excess = most.saturating_sub(acknowledged);
            let name = &g.spec.name;
            (excess > 0).then(|| {
                format!("VIOLATION: {excess} records arrived at `{name}` and were never acknowledged")
            })
        };
        tail.filter_map(more).collect()
    }
}

/// Tells the other threads when one failed.
fn guard<T>(plan: &Plan, outcome: Outcome<T>) -> Outcome<T> {
    if outcome.is_err() {
        plan.shared.abort.store(true, Ordering::Relaxed);
    }
    outcome
}
