//! Who gets which markers: ends of transactions on their way to the brokers that lead their partitions. Pure.
//!
//! ```text
//! begin ─▶ who leads? ─┬─ this broker ──▶ Send, at once
//!                      ├─ another ──────▶ Send, a few requests at a time; what comes meanwhile goes together
//!                      ├─ nobody ───────▶ looked at again
//!                      └─ it is gone ───▶ needs none
//! answered: written │ again: to whoever leads then, later and later │ refused: the end is given up
//! ```
//! An end is carried out for as long as its coordinator leads in the epoch that it was decided in. Whoever coordinates next
//! finds it in its log and begins anew: partitions take a marker twice (KAFKA-15524).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::types::{Command, Name, Partition, Version};
use crate::coordinator::Ms;
use crate::model::{BrokerId, LeaderEpoch, PartitionId, Producer};

/// Requests to one other broker that are under way, and markers of one request.
const AT_ONCE: usize = 4;
const MOST: usize = 1000;
/// How long a marker rests before the next try, in milliseconds: twice as long each time. What rests until about the same time
/// goes together.
const REST: i64 = 20;
const LONGEST_REST: i64 = 500;
/// At these many tries, and each time they have doubled, it is said that a marker is late.
const LATE: u32 = 16;

/// Who coordinates, in which epoch of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coordinator {
    pub partition: PartitionId,
    pub epoch: LeaderEpoch,
}

/// How a transaction ended, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub producer: Producer,
    pub commit: bool,
    pub version: Version,
    pub coordinator_epoch: LeaderEpoch,
}

/// One marker for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The end that it is of.
    pub job: u64,
    pub end: End,
    pub partition: Partition,
}

/// Who is to write a partition's marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    Broker(BrokerId),
    Nobody,
    /// There is no such partition any more.
    Gone,
}

/// What became of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there for good, or was before.
    Written,
    /// It is not, or nobody knows.
    Again,
    /// Somebody newer ended the transaction, or the coordinator's word does not count any more.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// To be written by a broker, this one or another; [`Marking::answered`] is told what became of them.
    Send { to: BrokerId, markers: Vec<Marker> },
    /// Every partition that still exists has its marker.
    Done { by: Coordinator, id: Name, producer: Producer },
    /// A partition refused its marker: the end is not carried on.
    GivenUp { id: Name, partition: Partition },
    /// After so many tries a partition has no marker yet.
    Late { id: Name, partition: Partition, tries: u32 },
}

/// An event's time, what is known of leaders, and what is to be done.
pub struct Round<'a> {
    pub now: Ms,
    pub leader: &'a dyn Fn(&Partition) -> Leader,
    pub acts: Vec<Act>,
}

/// The end of one transaction.
struct Job {
    by: Coordinator,
    id: Name,
    end: End,
    /// Partitions without their marker, and how often it was tried.
    left: BTreeMap<Partition, u32>,
}

/// What goes to another broker.
#[derive(Default)]
struct Line {
    under_way: usize,
    queued: VecDeque<(u64, Partition)>,
}

/// The ends that the coordinators of one shard carry out.
pub struct Marking {
    me: BrokerId,
    last: u64,
    jobs: BTreeMap<u64, Job>,
    /// Each coordinator ends one transaction of an id at a time.
    by_id: BTreeMap<(PartitionId, Name), u64>,
    lines: BTreeMap<BrokerId, Line>,
    resting: BTreeMap<Ms, Vec<(u64, Partition)>>,
}

impl Marking {
    pub fn new(me: BrokerId) -> Self {
        Self {
            me,
            last: 0,
            jobs: BTreeMap::new(),
            by_id: BTreeMap::new(),
            lines: BTreeMap::new(),
            resting: BTreeMap::new(),
        }
    }

    /// Ends that are not carried out yet.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// A coordinator's decision is durable. What it decided before of the same id is replaced.
    pub fn begin(&mut self, by: Coordinator, command: Command, round: &mut Round<'_>) {
        self.last += 1;
        let (number, Command { id, producer, commit, version, partitions }) = (self.last, command);
        if let Some(before) = self.by_id.insert((by.partition, id.clone()), number) {
            self.jobs.remove(&before);
        }
        let end = End { producer, commit, version, coordinator_epoch: by.epoch };
        let left = partitions.iter().map(|partition| (partition.clone(), 0)).collect();
        self.jobs.insert(number, Job { by, id, end, left });
        self.direct(partitions.into_iter().map(|partition| (number, partition)), round);
        self.look_whether_done(number, round);
    }

    /// The coordinator of a partition is not here any more, or another one is.
    pub fn forget(&mut self, coordinator: PartitionId) {
        let jobs = &mut self.jobs;
        self.by_id.retain(|(partition, _), number| {
            let stays = *partition != coordinator;
            if !stays {
                jobs.remove(number);
            }
            stays
        });
    }

    /// What became of a request's markers.
    pub fn answered(
        &mut self,
        from: BrokerId,
        outcomes: impl IntoIterator<Item = (Marker, Outcome)>,
        round: &mut Round<'_>,
    ) {
        let mut touched = BTreeSet::new();
        for (Marker { job: number, partition, .. }, outcome) in outcomes {
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            match outcome {
                Outcome::Written => {
                    job.left.remove(&partition);
                    touched.insert(number);
                }
                Outcome::Again => self.rest(number, partition, round),
                Outcome::Refused => {
                    round.acts.push(Act::GivenUp { id: job.id.clone(), partition });
                    self.remove(number);
                }
            }
        }
        touched.into_iter().for_each(|number| self.look_whether_done(number, round));
        if from != self.me {
            if let Some(line) = self.lines.get_mut(&from) {
                line.under_way = line.under_way.saturating_sub(1);
            }
            self.pump(from, round);
        }
    }

    /// Tries again what has rested for long enough.
    pub fn tick(&mut self, round: &mut Round<'_>) {
        let mut due = Vec::new();
        while let Some(entry) = self.resting.first_entry().filter(|entry| *entry.key() <= round.now) {
            due.extend(entry.remove());
        }
        let numbers: BTreeSet<u64> = due.iter().map(|(number, _)| *number).collect();
        self.direct(due.into_iter(), round);
        numbers.into_iter().for_each(|number| self.look_whether_done(number, round));
    }

    /// When something is to be tried again.
    pub fn next_at(&self) -> Option<Ms> {
        self.resting.keys().next().copied()
    }

    /// Sends markers to whom they belong now.
    fn direct(&mut self, markers: impl Iterator<Item = (u64, Partition)>, round: &mut Round<'_>) {
        let mut here = Vec::new();
        let mut there = BTreeSet::new();
        for (number, partition) in markers {
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            if !job.left.contains_key(&partition) {
                continue;
            }
            match (round.leader)(&partition) {
                Leader::Broker(broker) if broker == self.me => {
                    here.push(Marker { job: number, end: job.end, partition });
                }
                Leader::Broker(broker) => {
                    self.lines.entry(broker).or_default().queued.push_back((number, partition));
                    there.insert(broker);
                }
                Leader::Nobody => self.rest(number, partition, round),
                Leader::Gone => drop(job.left.remove(&partition)),
            }
        }
        if !here.is_empty() {
            round.acts.push(Act::Send { to: self.me, markers: here });
        }
        there.into_iter().for_each(|broker| self.pump(broker, round));
    }

    /// Sends to another broker what may be under way at a time.
    fn pump(&mut self, broker: BrokerId, round: &mut Round<'_>) {
        let Some(line) = self.lines.get_mut(&broker) else { return };
        while line.under_way < AT_ONCE {
            let mut markers = Vec::new();
            while markers.len() < MOST
                && let Some((number, partition)) = line.queued.pop_front()
            {
                let job = self.jobs.get(&number).filter(|job| job.left.contains_key(&partition));
                markers.extend(job.map(|job| Marker { job: number, end: job.end, partition }));
            }
            if markers.is_empty() {
                break;
            }
            line.under_way += 1;
            round.acts.push(Act::Send { to: broker, markers });
        }
        if line.under_way == 0 {
            self.lines.remove(&broker);
        }
    }

    fn rest(&mut self, number: u64, partition: Partition, round: &mut Round<'_>) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let Some(tries) = job.left.get_mut(&partition) else { return };
        let rest = (REST << (*tries).min(16)).min(LONGEST_REST);
        *tries = tries.saturating_add(1);
        if *tries >= LATE && tries.is_power_of_two() {
            let (id, partition) = (job.id.clone(), partition.clone());
            round.acts.push(Act::Late { id, partition, tries: *tries });
        }
        let at = (round.now + rest).div_euclid(REST) * REST + REST;
        self.resting.entry(at).or_default().push((number, partition));
    }

    fn look_whether_done(&mut self, number: u64, round: &mut Round<'_>) {
        if self.jobs.get(&number).is_some_and(|job| job.left.is_empty())
            && let Some(Job { by, id, end, .. }) = self.remove(number)
        {
            round.acts.push(Act::Done { by, id, producer: end.producer });
        }
    }

    fn remove(&mut self, number: u64) -> Option<Job> {
        let job = self.jobs.remove(&number)?;
        self.by_id.remove(&(job.by.partition, job.id.clone()));
        Some(job)
    }
}

#[cfg(test)]
#[path = "marking_tests.rs"]
mod tests;
