//! Where the time of requests goes: eight stages, a histogram of each for every API that is used, and the slowest
//! recent requests with theirs.
//!
//! ```text
//! first byte ─ read ─ whole frame ─ queue ─ started ─ route ─ handed over ─ (append ─ journal wait ─ commit) ─ respond ─
//! answer ready ─ send ─ in the socket
//! ```
//! The connection's shard counts what it sees; the owner of a partition counts append, journal wait and commit of a
//! Produce, and tells the connection's shard, whose `respond` is what is left: the way back, wake-ups, encoding. Owned
//! by the shard's thread; counting is a few adds. Histograms keep two digits of nanoseconds, so that all eight of an API
//! take little memory.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::rt::{self, Ticks};

pub const STAGES: [&str; 8] =
    ["read", "queue", "route", "append", "journal_wait", "commit", "respond", "send"];
pub const READ: usize = 0;
pub const QUEUE: usize = 1;
pub const ROUTE: usize = 2;
pub const APPEND: usize = 3;
pub const JOURNAL_WAIT: usize = 4;
pub const COMMIT: usize = 5;
pub const RESPOND: usize = 6;
pub const SEND: usize = 7;

const PRODUCE: i16 = 0;
/// APIs whose stages are counted apart; others share the last place.
const API_SLOTS: usize = 96;
const SHORTEST_NS: u64 = 256;
const LONGEST_NS: u64 = 600_000_000_000;
/// Slow requests that are kept.
const SLOW: usize = 32;
/// After this long a slow request gives up its place.
const SLOW_AGE_MS: i64 = 10 * 60 * 1000;

/// Nanoseconds of each stage.
pub type Nanos = [u64; STAGES.len()];

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, 1).expect("constant bounds are valid")
}

/// One stage of one API on one shard.
#[derive(Clone, Debug)]
pub struct Stage {
    pub nanos: Histogram<u64>,
    pub sum_ns: u64,
    /// Too short for the histogram to tell apart, and not in it yet: most of what some stages count.
    shortest: u64,
}

impl Stage {
    fn new() -> Stage {
        Stage { nanos: histogram(), sum_ns: 0, shortest: 0 }
    }

    fn record(&mut self, nanos: u64) {
        if nanos < SHORTEST_NS {
            self.shortest += 1;
        } else {
            self.nanos.saturating_record(nanos);
        }
        self.sum_ns += nanos;
    }

    /// As it stands, with everything in the histogram.
    fn whole(&self) -> Stage {
        let mut whole = Stage { shortest: 0, ..self.clone() };
        whole.nanos.saturating_record_n(0, self.shortest);
        whole
    }
}

/// What the owner of a partition says about a Produce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appending {
    pub append_ns: u64,
    pub journal_wait_ns: u64,
    pub commit_ns: u64,
}

impl Appending {
    /// Several owners work at the same time: the slowest of each counts.
    pub fn and(self, other: Appending) -> Appending {
        Appending {
            append_ns: self.append_ns.max(other.append_ns),
            journal_wait_ns: self.journal_wait_ns.max(other.journal_wait_ns),
            commit_ns: self.commit_ns.max(other.commit_ns),
        }
    }
}

/// A request that took long.
#[derive(Clone, Debug)]
pub struct Slow {
    pub api_key: i16,
    pub peer: SocketAddr,
    pub bytes: usize,
    /// When its answer was in the socket.
    pub at_ms: i64,
    pub total_ns: u64,
    pub stages: Nanos,
}

type Stages = [Stage; STAGES.len()];

pub struct Timing {
    apis: [OnceCell<Box<RefCell<Stages>>>; API_SLOTS],
    /// What appends on this shard took since it was last asked for, and when the last one ended.
    appended: Cell<(u64, Option<Ticks>)>,
    /// What the answer that was just made says about its appends.
    appending: Cell<Appending>,
    slow: RefCell<Vec<Slow>>,
    /// A request below this is not among the slowest.
    slow_from_ns: Cell<u64>,
}

impl Timing {
    pub fn new() -> Self {
        Timing {
            apis: [const { OnceCell::new() }; API_SLOTS],
            appended: Cell::default(),
            appending: Cell::default(),
            slow: RefCell::default(),
            slow_from_ns: Cell::new(0),
        }
    }

    fn stages(&self, api_key: i16) -> &RefCell<Stages> {
        let slot = usize::try_from(api_key).unwrap_or(usize::MAX).min(API_SLOTS - 1);
        self.apis[slot].get_or_init(|| Box::new(RefCell::new(std::array::from_fn(|_| Stage::new()))))
    }

    /// The owner's part of a Produce is over.
    pub fn appended(&self, appending: Appending, waited: bool) {
        let mut stages = self.stages(PRODUCE).borrow_mut();
        stages[APPEND].record(appending.append_ns);
        if waited {
            stages[JOURNAL_WAIT].record(appending.journal_wait_ns);
            stages[COMMIT].record(appending.commit_ns);
        }
    }

    /// An append took this long, up to now, while a request was being started.
    pub fn note_append(&self, nanos: u64, now: Ticks) {
        self.appended.set((self.appended.get().0 + nanos, Some(now)));
    }

    pub fn take_append(&self) -> (u64, Option<Ticks>) {
        self.appended.take()
    }

    /// For the connection that polls the answer at this moment.
    pub fn note_appending(&self, appending: Appending) {
        self.appending.set(appending);
    }

    pub fn take_appending(&self) -> Appending {
        self.appending.replace(Appending::default())
    }

    /// A request's answer is in the socket, all of it.
    pub fn finished(&self, request: &Timed, now: Ticks) {
        let nanos = request.stages(now);
        let mut stages = self.stages(request.api_key).borrow_mut();
        for stage in [READ, QUEUE, ROUTE, RESPOND, SEND] {
            stages[stage].record(nanos[stage]);
        }
        drop(stages);
        let total_ns = now.since(request.begun);
        if total_ns > self.slow_from_ns.get() {
            self.keep_slow(request, nanos, total_ns);
        }
    }

    #[cold]
    fn keep_slow(&self, request: &Timed, stages: Nanos, total_ns: u64) {
        let at_ms = rt::unix_ms();
        let Timed { api_key, peer, bytes, .. } = *request;
        let mut slow = self.slow.borrow_mut();
        slow.retain(|s| at_ms - s.at_ms < SLOW_AGE_MS);
        slow.push(Slow { api_key, peer, bytes, at_ms, total_ns, stages });
        slow.sort_by_key(|s| std::cmp::Reverse(s.total_ns));
        slow.truncate(SLOW);
        self.slow_from_ns.set(if slow.len() == SLOW { slow[SLOW - 1].total_ns } else { 0 });
    }

    pub fn snapshot(&self) -> TimingSnapshot {
        let now = rt::unix_ms();
        let mut slow = self.slow.borrow_mut();
        // Old ones give way here too, or a bad minute would hide all that follow.
        slow.retain(|s| now - s.at_ms < SLOW_AGE_MS);
        if slow.len() < SLOW {
            self.slow_from_ns.set(0);
        }
        let apis = self.apis.iter().enumerate();
        let used = apis.filter_map(|(key, stages)| {
            Some((key as i16, stages.get()?.borrow().iter().map(Stage::whole).collect()))
        });
        TimingSnapshot { apis: used.collect(), slow: slow.clone(), stalls: rt::stall::stalls() }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::new()
    }
}

/// A shard's timing on its way to the control thread.
#[derive(Clone, Debug, Default)]
pub struct TimingSnapshot {
    /// API keys with their stages, in the order of [`STAGES`].
    pub apis: Vec<(i16, Vec<Stage>)>,
    pub slow: Vec<Slow>,
    pub stalls: Vec<rt::stall::Stalls>,
}

/// The moments of one request.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    pub api_key: i16,
    pub peer: SocketAddr,
    pub bytes: usize,
    /// Its first byte came.
    pub begun: Ticks,
    /// Its last byte came.
    pub whole: Ticks,
    pub started: Ticks,
    pub routed: Ticks,
    /// Nanoseconds between started and routed that were an append here.
    pub appended_here_ns: u64,
    pub appending: Appending,
    pub ready: Ticks,
}

impl Timed {
    /// A request whose first byte, last byte and start have come.
    pub fn new(api_key: i16, peer: SocketAddr, bytes: usize, [begun, whole, started]: [Ticks; 3]) -> Self {
        let (routed, ready, appending) = (started, started, Appending::default());
        Self { api_key, peer, bytes, begun, whole, started, routed, appended_here_ns: 0, appending, ready }
    }

    /// From its start to its answer.
    pub fn took(&self) -> Duration {
        Duration::from_nanos(self.ready.since(self.started))
    }

    pub fn stages(&self, sent: Ticks) -> Nanos {
        let mut nanos = Nanos::default();
        nanos[READ] = self.whole.since(self.begun);
        nanos[QUEUE] = self.started.since(self.whole);
        nanos[ROUTE] = self.routed.since(self.started).saturating_sub(self.appended_here_ns);
        let Appending { append_ns, journal_wait_ns, commit_ns } = self.appending;
        (nanos[APPEND], nanos[JOURNAL_WAIT], nanos[COMMIT]) = (append_ns, journal_wait_ns, commit_ns);
        let elsewhere = append_ns.saturating_sub(self.appended_here_ns);
        nanos[RESPOND] =
            self.ready.since(self.routed).saturating_sub(elsewhere + journal_wait_ns + commit_ns);
        nanos[SEND] = sent.since(self.ready);
        nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(api_key: i16, appending: Appending) -> Timed {
        let moments: Vec<Ticks> = (0..5)
            .map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(2));
                Ticks::now()
            })
            .collect();
        let [begun, whole, started, routed, ready] = moments[..] else { unreachable!() };
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        Timed {
            api_key,
            peer,
            bytes: 9,
            begun,
            whole,
            started,
            routed,
            appended_here_ns: 0,
            appending,
            ready,
        }
    }

    #[test]
    fn stages_add_up_to_the_whole() {
        let appending = Appending { append_ns: 100_000, journal_wait_ns: 200_000, commit_ns: 900_000 };
        let request = timed(0, appending);
        let now = Ticks::now();
        let stages = request.stages(now);
        let (sum, total) = (stages.iter().sum::<u64>(), now.since(request.begun));
        assert!(sum.abs_diff(total) < 1000, "{stages:?} {total}");
        assert!(stages[READ] > 1_500_000 && stages[RESPOND] < stages[ROUTE], "{stages:?}");
    }

    #[test]
    fn owners_and_connections_count_their_own_stages_and_the_slowest_are_kept() {
        let timing = Timing::new();
        let request = timed(1, Appending::default());
        for _ in 0..3 {
            timing.finished(&request, Ticks::now());
        }
        timing.appended(Appending { append_ns: 5_000, ..Appending::default() }, false);
        let snapshot = timing.snapshot();
        let counts = |key: i16| {
            let (_, stages) = snapshot.apis.iter().find(|(k, _)| *k == key).unwrap();
            stages.iter().map(|s| s.nanos.len()).collect::<Vec<_>>()
        };
        assert_eq!(counts(1), [3, 3, 3, 0, 0, 0, 3, 3]);
        assert_eq!(counts(0), [0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(snapshot.slow.len(), 3);
        for _ in 0..2 * SLOW {
            timing.finished(&request, Ticks::now());
        }
        let slow = timing.snapshot().slow;
        assert!(slow.len() == SLOW && slow.windows(2).all(|w| w[0].total_ns >= w[1].total_ns));
    }

    #[test]
    fn several_owners_count_as_the_slowest() {
        let a = Appending { append_ns: 1, journal_wait_ns: 9, commit_ns: 3 };
        let b = Appending { append_ns: 4, journal_wait_ns: 2, commit_ns: 3 };
        assert_eq!(a.and(b), Appending { append_ns: 4, journal_wait_ns: 9, commit_ns: 3 });
    }
}
