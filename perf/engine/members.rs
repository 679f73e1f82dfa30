//! Consumers that share a topic through a consumer group: they join before the run, keep their membership while
//! it lasts, commit what was read once a second, and leave when it is over.
//!
//! The group must come to rest before the run and stay so: a generation that changes on the way would make the figures
//! those of a rebalance, and is a problem of the run. What the group has committed at the end must be what was read.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use weir::client::{Client, Membership};

use super::meter::histogram;
use crate::Outcome;
use crate::topics;

const COMMIT_EVERY: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);
/// How long a group may take to come to rest, and how long it must stay so: longer than members' heartbeats.
const SETTLE: Duration = Duration::from_secs(90);
const REST: Duration = Duration::from_secs(4);

/// One reading of a topic by a group.
pub struct Team {
    pub group: String,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Outcome<Histogram<u64>>>>,
    /// By member, its partitions.
    pub assigned: Vec<Vec<i32>>,
}

/// Partitions of a member, and since when.
type Given = (Vec<i32>, Instant);

struct Shared {
    stop: AtomicBool,
    /// The run has begun: nobody may join again.
    running: AtomicBool,
    /// By member, what it was given last and when.
    given: Mutex<Vec<Option<Given>>>,
    positions: Arc<[AtomicI64]>,
}

impl Team {
    /// Joins all members and waits until every partition is somebody's.
    pub fn join(
        address: &str,
        group: &str,
        topic: &str,
        members: usize,
        positions: Arc<[AtomicI64]>,
    ) -> Outcome<Team> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            running: AtomicBool::new(false),
            given: Mutex::new(vec![None; members]),
            positions,
        });
        let start = |member| {
            let (shared, address) = (shared.clone(), address.to_owned());
            let (group, topic) = (group.to_owned(), topic.to_owned());
            thread::spawn(move || live(&shared, member, &address, &group, &topic))
        };
        let threads = (0..members).map(start).collect();
        let mut team = Team { group: group.to_owned(), shared, threads, assigned: Vec::new() };
        match team.settle() {
            Ok(()) => Ok(team),
            Err(error) => {
                // A member's own error says more than that the group did not come to rest.
                let found = team.disband();
                Err(found.err().unwrap_or(error))
            }
        }
    }

    fn settle(&mut self) -> Outcome<()> {
        let deadline = Instant::now() + SETTLE;
        while Instant::now() < deadline && !self.threads.iter().any(JoinHandle::is_finished) {
            thread::sleep(LOOK);
            let given = self.shared.given.lock().expect("nobody panics with it");
            let rests = given.iter().flatten().all(|(_, since)| since.elapsed() > REST);
            let mut all: Vec<i32> = given.iter().flatten().flat_map(|(p, _)| p.iter().copied()).collect();
            all.sort_unstable();
            let covers = all.iter().copied().eq(0..self.shared.positions.len() as i32);
            if rests && covers && given.iter().all(Option::is_some) {
                self.assigned = given.iter().flatten().map(|(p, _)| p.clone()).collect();
                self.shared.running.store(true, Ordering::Release);
                return Ok(());
            }
        }
        Err(format!("group {} did not come to rest within {} s", self.group, SETTLE.as_secs()))
    }

    /// Has everybody commit and leave. Returns how long commits took.
    pub fn disband(&mut self) -> Outcome<Histogram<u64>> {
        self.shared.stop.store(true, Ordering::Release);
        let mut commits = histogram();
        let mut outcome = Ok(());
        for thread in self.threads.drain(..) {
            match thread.join().unwrap_or_else(|_| Err("a member panicked".to_owned())) {
                Ok(took) => commits.add(&took).expect("all histograms have the same bounds"),
                Err(error) => outcome = Err(error),
            }
        }
        outcome.map(|()| commits)
    }

    /// Whether the group committed what its members read.
    pub fn check_committed(&self, address: &str) -> Outcome<()> {
        let mut client = Client::connect(address, topics::options()).map_err(|e| e.to_string())?;
        let committed = client.group_offsets(&self.group).map_err(|e| e.to_string())?;
        for (partition, position) in self.shared.positions.iter().enumerate() {
            let read = position.load(Ordering::Relaxed);
            let found = committed.iter().find(|o| o.at.1 as usize == partition).map(|o| o.offset);
            if found != Some(read) {
                let group = &self.group;
                let found = found.map_or("nothing".to_owned(), |offset| offset.to_string());
                return Err(format!(
                    "VIOLATION: group {group} committed {read} in partition {partition} and {found} is stored"
                ));
            }
        }
        client.delete_group(&self.group).map_err(|e| e.to_string())
    }
}

/// One member, from joining to leaving.
fn live(shared: &Shared, member: usize, address: &str, group: &str, topic: &str) -> Outcome<Histogram<u64>> {
    let words = |e: weir::client::ClientError| format!("group {group}: {e}");
    let mut client = Client::connect(address, topics::options()).map_err(words)?;
    let mut membership = Membership::join(&mut client, group, topic).map_err(words)?;
    let give = |membership: &Membership| {
        let mut given = shared.given.lock().expect("nobody panics with it");
        given[member] = Some((membership.partitions(), Instant::now()));
    };
    give(&membership);
    let mut commits = histogram();
    let mut next_commit = Instant::now() + COMMIT_EVERY;
    loop {
        let stop = shared.stop.load(Ordering::Acquire);
        let running = shared.running.load(Ordering::Acquire);
        if membership.is_rebalancing(&mut client).map_err(words)? {
            if running && !stop {
                return Err(format!("group {group} rebalanced during the run"));
            }
            // Others leave: what was read is committed below all the same.
            if !stop {
                membership.rejoin(&mut client).map_err(words)?;
                give(&membership);
            }
        }
        if running && (stop || Instant::now() >= next_commit) {
            next_commit = Instant::now() + COMMIT_EVERY;
            let at = |p: i32| (p, shared.positions[p as usize].load(Ordering::Relaxed));
            let offsets: Vec<(i32, i64)> = membership.partitions().into_iter().map(at).collect();
            let began = Instant::now();
            membership.commit(&mut client, &offsets).map_err(words)?;
            commits.saturating_record(began.elapsed().as_nanos() as u64);
        }
        if stop {
            // Leaving makes the others join again: everybody commits first.
            shared.leave_together(member);
            membership.leave(&mut client).map_err(words)?;
            return Ok(commits);
        }
        thread::sleep(LOOK);
    }
}

impl Shared {
    /// Waits until all members have come this far, or long enough.
    fn leave_together(&self, member: usize) {
        self.given.lock().expect("nobody panics with it")[member] = None;
        let deadline = Instant::now() + 4 * COMMIT_EVERY;
        while Instant::now() < deadline
            && self.given.lock().expect("nobody panics with it").iter().any(Option::is_some)
        {
            thread::sleep(Duration::from_millis(2));
        }
    }
}
