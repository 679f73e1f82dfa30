//! What a thread counts: in the run's window for the result, and second by second for the curves.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use hdrhistogram::Histogram;

const SECOND: u64 = 1_000_000_000;
/// Latencies are kept in nanoseconds, from a tenth of a microsecond to ten minutes, to three digits.
const SHORTEST: u64 = 100;
const LONGEST: u64 = 600 * SECOND;

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(SHORTEST, LONGEST, 3).expect("constant bounds are valid")
}

#[derive(Clone, Debug)]
pub struct Tally {
    pub requests: u64,
    pub records: u64,
    pub bytes: u64,
    pub latency: Histogram<u64>,
}

impl Tally {
    pub fn new() -> Tally {
        Tally { requests: 0, records: 0, bytes: 0, latency: histogram() }
    }

    pub fn add(&mut self, other: &Tally) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
    }
}

/// Who counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Produce,
    /// The nth consumer entry of the workload.
    Consume(usize),
}

/// One thread's second.
pub struct Interval {
    pub role: Role,
    /// Its end on the run's clock.
    pub end: u64,
    pub tally: Tally,
}

pub struct Meter {
    role: Role,
    out: Sender<Interval>,
    window: (u64, u64),
    next: u64,
    interval: Tally,
    pub total: Tally,
    pub errors: BTreeMap<i16, u64>,
    /// All records ever counted, in the window or not.
    pub ever: u64,
}

impl Meter {
    /// Seconds are aligned to the window's start.
    pub fn new(role: Role, out: Sender<Interval>, window: (u64, u64)) -> Meter {
        let next = window.0 % SECOND;
        let (interval, total) = (Tally::new(), Tally::new());
        Meter { role, out, window, next, interval, total, errors: BTreeMap::new(), ever: 0 }
    }

    pub fn in_window(&self, at: u64) -> bool {
        at >= self.window.0 && at < self.window.1
    }

    /// Work that was done now.
    pub fn count(&mut self, now: u64, requests: u64, records: u64, bytes: u64) {
        self.ever += records;
        let add = |tally: &mut Tally| {
            tally.requests += requests;
            tally.records += records;
            tally.bytes += bytes;
        };
        add(&mut self.interval);
        if now >= self.window.0 && now < self.window.1 {
            add(&mut self.total);
        }
    }

    /// How long something took that was meant to begin at `intended`; the window holds what was meant for it.
    pub fn latency(&mut self, now: u64, intended: u64) {
        let took = now.saturating_sub(intended);
        self.interval.latency.saturating_record(took);
        if self.in_window(intended) {
            self.total.latency.saturating_record(took);
        }
    }

    /// The same for the closed loop, whose window holds what ended in it.
    pub fn latency_ended(&mut self, now: u64, began: u64) {
        let took = now.saturating_sub(began);
        self.interval.latency.saturating_record(took);
        if self.in_window(now) {
            self.total.latency.saturating_record(took);
        }
    }

    pub fn error(&mut self, code: i16) {
        *self.errors.entry(code).or_default() += 1;
    }

    /// Hands the interval over when its second is done.
    pub fn tick(&mut self, now: u64) {
        if now < self.next {
            return;
        }
        let end = self.next;
        while self.next <= now {
            self.next += SECOND;
        }
        if self.interval.records == 0 && self.interval.requests == 0 {
            return;
        }
        let tally = std::mem::replace(&mut self.interval, Tally::new());
        // Nobody listens once the run is over.
        let _ = self.out.send(Interval { role: self.role, end, tally });
    }
}
