//! Consumers: one Fetch in flight on each connection, in incremental sessions, everything read checked on the way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use mio::{Events, Poll};

use super::meter::{Meter, Tally};
use super::order::Partition;
use super::plan::Plan;
use crate::Outcome;
use crate::net::frames::{self, FetchLimits};
use crate::net::lane::{Frame, Lane};
use crate::net::wait::{sharpen, wait};
use crate::workload::{self, From};

const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
/// How long readers at the tail wait for what was acknowledged but has not come.
const PATIENCE: u64 = 30_000_000_000;

/// One consumer entry of the workload, as its threads see it.
pub struct Group {
    /// Which entry.
    pub entry: usize,
    pub spec: workload::Consumer,
    /// By partition, where to begin.
    pub start: Vec<i64>,
    /// By partition, where a reader from the beginning turns round; empty at the tail.
    pub end: Vec<i64>,
    /// Records read, by reading of the topic.
    pub seen: Vec<AtomicU64>,
    /// By reading, the partitions of each member; empty where partitions go round.
    pub assigned: Vec<Vec<Vec<i32>>>,
    /// By reading, the offset to read next of each partition; empty without groups.
    pub positions: Vec<Arc<[AtomicI64]>>,
}

impl Group {
    /// Whether a partition is a consumer's to read.
    fn gives(&self, reading: usize, member: usize, partition: usize) -> bool {
        match self.assigned.get(reading) {
            Some(members) => members[member].contains(&(partition as i32)),
            None => partition % self.spec.count == member,
        }
    }
}

pub struct Consumed {
    pub entry: usize,
    pub total: Tally,
    pub errors: std::collections::BTreeMap<i16, u64>,
}

struct Reader {
    lane: Lane,
    /// Which reading of the topic this belongs to.
    reading: usize,
    session: (i32, i32),
    partitions: Vec<Partition>,
    index: HashMap<i32, usize>,
    /// Partitions whose offset the broker does not know.
    moved: Vec<usize>,
    is_moved: Vec<bool>,
    asked: u64,
}

struct Thread<'a> {
    plan: &'a Plan,
    group: Arc<Group>,
    limits: FetchLimits,
    readers: Vec<Reader>,
    meter: Meter,
}

pub fn run(plan: &Plan, group: Arc<Group>, thread: usize, meter: Meter) -> Outcome<Consumed> {
    sharpen();
    let mut poll = Poll::new().map_err(|e| format!("epoll: {e}"))?;
    let mut t = Thread::new(plan, group, thread, meter, &poll)?;
    let mut events = Events::with_capacity(t.readers.len().clamp(1, 4096));
    for reader in 0..t.readers.len() {
        t.ask(reader)?;
    }
    let (mut progress, mut before) = (0, 0);
    while !plan.shared.aborted() {
        let now = plan.clock.now();
        t.meter.tick(now);
        if t.is_done(now) {
            break;
        }
        if t.meter.ever != before || plan.shared.all_produced().is_none() {
            (progress, before) = (now, t.meter.ever);
        } else if now > progress + PATIENCE {
            return Err(t.missing());
        }
        wait(&mut poll, &mut events, 50_000_000)?;
        for event in &events {
            t.serve(event.token().0, event.is_readable())?;
        }
    }
    let entry = t.group.entry;
    Ok(Consumed { entry, total: t.meter.total, errors: t.meter.errors })
}

impl<'a> Thread<'a> {
    fn new(plan: &'a Plan, group: Arc<Group>, thread: usize, meter: Meter, poll: &Poll) -> Outcome<Self> {
        let spec = &group.spec;
        let limits = FetchLimits {
            max_wait_ms: spec.max_wait.0.as_millis().min(i32::MAX as u128) as i32,
            min_bytes: spec.min_bytes.i32(),
            max_bytes: spec.max_bytes.i32(),
        };
        let mut readers = Vec::new();
        for consumer in Plan::share(spec.count * spec.fan_out, spec.threads, thread) {
            let (reading, member) = (consumer / spec.count, consumer % spec.count);
            for leader in 0..plan.target.leaders.len() {
                let mine = |p: &usize| {
                    group.gives(reading, member, *p) && usize::from(plan.target.leader_of[*p]) == leader
                };
                let partitions: Vec<Partition> = (0..plan.target.leader_of.len())
                    .filter(mine)
                    .map(|p| Partition::new(p as i32, group.start[p]))
                    .collect();
                if partitions.is_empty() {
                    continue;
                }
                let lane = Lane::new(plan.target.connect(leader)?, poll.registry(), readers.len())?;
                readers.push(Reader::new(lane, reading, partitions));
            }
        }
        Ok(Thread { plan, group, limits, readers, meter })
    }

    /// Readers at the tail are done when they have what was acknowledged, the others when the window is over.
    fn is_done(&self, now: u64) -> bool {
        if self.group.spec.from == From::Beginning {
            return now >= self.plan.window.1;
        }
        let Some(acknowledged) = self.plan.shared.all_produced() else { return false };
        now >= self.plan.window.1 && self.group.seen.iter().all(|n| n.load(Ordering::Relaxed) >= acknowledged)
    }

    fn missing(&self) -> String {
        let acknowledged = self.plan.shared.all_produced().unwrap_or(0);
        let least = self.group.seen.iter().map(|n| n.load(Ordering::Relaxed)).min().unwrap_or(0);
        let missing = acknowledged.saturating_sub(least);
        format!(
            "VIOLATION: {missing} records were acknowledged and never arrived at `{}`",
            self.group.spec.name
        )
    }

    fn ask(&mut self, reader: usize) -> Outcome<()> {
        let r = &mut self.readers[reader];
        let mut out = r.lane.buffer();
        let moved = r.moved.iter().map(|i| (r.partitions[*i].index, r.partitions[*i].offset));
        frames::fetch(&mut out, &self.plan.target.topic, self.limits, r.session, moved);
        r.moved.drain(..).for_each(|i| r.is_moved[i] = false);
        r.asked = self.plan.clock.now();
        r.lane.push(Frame::whole(out), true);
        r.lane.flush()
    }

    fn serve(&mut self, reader: usize, readable: bool) -> Outcome<()> {
        self.readers[reader].lane.flush()?;
        let mut more = readable;
        while more {
            more = self.readers[reader].lane.receive()?;
            while let Some(range) = self.readers[reader].lane.answer()? {
                self.take(reader, range)?;
                self.ask(reader)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, reader: usize, range: std::ops::Range<usize>) -> Outcome<()> {
        let Thread { plan, group, meter, .. } = self;
        let r = &mut self.readers[reader];
        let now = plan.clock.now();
        let Reader { lane, partitions, index, moved, is_moved, reading, .. } = r;
        let (mut records, mut bytes) = (0, 0);
        let verify = group.spec.verify;
        let answer = frames::fetch_answer(lane.bytes(range), |f| {
            if f.error != 0 {
                meter.error(f.error);
                return Ok(());
            }
            let nth = *index.get(&f.partition).ok_or("an answer for a partition that nobody asked for")?;
            let partition = &mut partitions[nth];
            let before = partition.offset;
            let tail = group.end.is_empty();
            let arrived = &mut |intended| {
                if tail {
                    meter.latency(now, intended);
                }
            };
            let read = partition.read(f.records, verify, plan.run, arrived)?;
            records += read.records;
            bytes += read.bytes;
            if let Some(end) = group.end.get(f.partition as usize)
                && partition.offset >= *end
            {
                partition.restart(f.log_start_offset.max(0));
            }
            if let Some(positions) = group.positions.get(*reading) {
                positions[f.partition as usize].store(partition.offset, Ordering::Relaxed);
            }
            if partition.offset != before && !is_moved[nth] {
                is_moved[nth] = true;
                moved.push(nth);
            }
            Ok(())
        })?;
        meter.count(now, 1, records, bytes);
        if !group.end.is_empty() {
            meter.latency_ended(now, r.asked);
        }
        group.seen[r.reading].fetch_add(records, Ordering::Relaxed);
        r.next_session(answer.0, answer.1, meter);
        Ok(())
    }
}

impl Reader {
    fn new(lane: Lane, reading: usize, partitions: Vec<Partition>) -> Reader {
        let index = partitions.iter().enumerate().map(|(i, p)| (p.index, i)).collect();
        let moved = (0..partitions.len()).collect();
        let is_moved = vec![true; partitions.len()];
        Reader { lane, reading, session: (0, 0), partitions, index, moved, is_moved, asked: 0 }
    }

    /// A broker may refuse a session, by id 0, or forget one: then every request names all partitions.
    fn next_session(&mut self, error: i16, id: i32, meter: &mut Meter) {
        let lost = error == FETCH_SESSION_ID_NOT_FOUND || error == INVALID_FETCH_SESSION_EPOCH;
        if error != 0 && !lost {
            meter.error(error);
        }
        if id != 0 && error == 0 {
            let epoch = self.session.1.checked_add(1).unwrap_or(1);
            self.session = (id, epoch);
            return;
        }
        self.session = (0, 0);
        self.moved = (0..self.partitions.len()).collect();
        self.is_moved.fill(true);
    }
}
