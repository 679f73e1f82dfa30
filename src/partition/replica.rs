//! One replica: its role, its offsets, and who waits for them.
//!
//! A leader that is alone in the ISR commits what is durable here, so a consumer never reads what a crash could take
//! back (unless the topic opted out with `write.caching`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::assignment::{Assignment, Role};
use super::offsets::Offsets;
use super::producer::{ProducerView, Producers};
use super::verification::Verifications;
use crate::log::{Lsn, PartitionLog};
use crate::model::topic_config::TopicConfig;
use crate::model::{BrokerId, LeaderEpoch, MonoMs, Offset, PartitionId};

pub struct Replica {
    pub id: PartitionId,
    pub topic: Arc<str>,
    pub log: Rc<PartitionLog>,
    /// The broker whose replica it is.
    broker: BrokerId,
    pub(super) config: RefCell<Arc<TopicConfig>>,
    assignment: RefCell<Assignment>,
    role: Cell<Role>,
    pub(super) producers: RefCell<Producers>,
    pub(super) verifications: RefCell<Verifications>,
    offsets: Cell<Offsets>,
    /// Appended batches that no commit covers yet: their journal position and the log end they make.
    pub(super) undurable: RefCell<VecDeque<(Lsn, i64)>>,
    watchers: RefCell<Vec<Watcher>>,
    purge_at: Cell<usize>,
}

/// Somebody who waits for any of several partitions to have something new.
pub trait Waiting {
    /// Something is new. Called any number of times.
    fn fire(&self);
    /// Whether nobody waits any more.
    fn is_over(&self) -> bool;
}

struct Watcher {
    above: i64,
    waiting: Rc<dyn Waiting>,
}

/// Watchers of a partition that may be over before the list is looked through.
const WATCHERS_UNPURGED: usize = 16;

impl Replica {
    /// A replica of `broker`, over a log that is durable up to its end; of the high watermark it is told what was stored.
    /// It serves nothing before it is [assigned](Self::assign).
    pub fn new(
        (id, topic): (PartitionId, Arc<str>),
        broker: BrokerId,
        log: Rc<PartitionLog>,
        config: Arc<TopicConfig>,
        high_watermark: Offset,
    ) -> Self {
        let (start, end) = (Offset(log.start_offset()), Offset(log.end_offset()));
        Self {
            id,
            topic,
            log,
            broker,
            config: RefCell::new(config),
            assignment: RefCell::default(),
            role: Cell::new(Role::Offline),
            producers: RefCell::default(),
            verifications: RefCell::default(),
            offsets: Cell::new(Offsets::recovered(start, high_watermark, end)),
            undurable: RefCell::default(),
            watchers: RefCell::default(),
            purge_at: Cell::new(WATCHERS_UNPURGED),
        }
    }

    pub fn set_producers(&self, mut producers: Producers) {
        producers.transactions_mut().settle(self.high_watermark());
        producers.transactions_mut().cut(self.log.start_offset());
        self.producers.replace(producers);
    }

    /// The producers' state as of the log end, to be stored once that is durable.
    pub fn producer_snapshot(&self) -> Option<(i64, Vec<u8>)> {
        let mut producers = self.producers.borrow_mut();
        producers.transactions_mut().cut(self.log.start_offset());
        (!producers.is_empty()).then(|| (self.log.end_offset(), producers.snapshot()))
    }

    pub fn expire_producers(&self, before_ms: i64) {
        self.producers.borrow_mut().expire(before_ms);
        self.verifications.borrow_mut().forget_idle();
    }

    /// What each producer did here.
    pub fn producers(&self) -> Vec<ProducerView> {
        self.producers.borrow().views().collect()
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.borrow().clone()
    }

    pub fn set_config(&self, config: Arc<TopicConfig>) {
        self.log.set_config(&config);
        *self.config.borrow_mut() = config;
    }

    /// Takes what the metadata says of the partition. What is older than what was taken already is ignored. Returns
    /// whether the replica begins a leader's term, or ends one.
    pub fn assign(&self, assignment: Assignment, _now: MonoMs) -> bool {
        let known = self.assignment.borrow();
        let (role, first) = (assignment.role_of(self.broker), known.replicas.is_empty());
        if !first && !known.is_before(&assignment) {
            return false;
        }
        let new_term = first || known.leader_epoch != assignment.leader_epoch || self.role.get() != role;
        drop(known);
        self.assignment.replace(assignment);
        self.role.set(role);
        self.advance();
        new_term
    }

    pub fn role(&self) -> Role {
        self.role.get()
    }

    /// The leader that the metadata names, and its epoch.
    pub fn leader(&self) -> (Option<BrokerId>, LeaderEpoch) {
        let assignment = self.assignment.borrow();
        (assignment.leader, assignment.leader_epoch)
    }

    pub fn leader_epoch(&self) -> i32 {
        self.assignment.borrow().leader_epoch.0
    }

    pub fn offsets(&self) -> Offsets {
        let mut offsets = self.offsets.get();
        // Retention moves it where the replica is not asked.
        offsets.start_at(Offset(self.log.start_offset()));
        self.offsets.set(offsets);
        offsets
    }

    fn move_offsets<T>(&self, change: impl FnOnce(&mut Offsets) -> T) -> T {
        let mut offsets = self.offsets();
        let done = change(&mut offsets);
        self.offsets.set(offsets);
        done
    }

    pub fn high_watermark(&self) -> i64 {
        self.offsets.get().high_watermark().0
    }

    pub(super) fn note_appended(&self, lsn: Lsn, write_caching: bool) -> Option<Lsn> {
        let end = self.log.end_offset();
        self.move_offsets(|offsets| offsets.append(Offset(end)));
        if write_caching {
            self.move_offsets(|offsets| offsets.make_durable(Offset(end)));
            self.advance();
            return None;
        }
        self.undurable.borrow_mut().push_back((lsn, end));
        Some(lsn)
    }

    /// Whether appended batches wait for a commit.
    pub fn is_undurable(&self) -> bool {
        !self.undurable.borrow().is_empty()
    }

    /// More is on disk, as `is_durable` tells: the high watermark follows.
    pub fn on_durable(&self, is_durable: impl Fn(Lsn) -> bool) {
        let mut end = None;
        let mut undurable = self.undurable.borrow_mut();
        while let Some((first, offset)) = undurable.front().copied()
            && is_durable(first)
        {
            end = Some(offset);
            undurable.pop_front();
        }
        drop(undurable);
        if let Some(end) = end {
            self.move_offsets(|offsets| offsets.make_durable(Offset(end)));
            self.advance();
        }
    }

    /// What is durable here is committed, where that is for this replica to say.
    fn advance(&self) {
        let leads = self.role.get() == Role::Leader;
        if !leads || !self.move_offsets(|offsets| offsets.commit(offsets.durable_end())) {
            return;
        }
        let to = self.high_watermark();
        self.producers.borrow_mut().transactions_mut().settle(to);
        self.watchers.borrow_mut().retain(|watcher| {
            let fire = watcher.above < to;
            if fire {
                watcher.waiting.fire();
            }
            !fire && !watcher.waiting.is_over()
        });
    }

    /// Fires `waiting` once the high watermark is above `above`, or the partition goes away.
    pub fn watch(&self, above: i64, waiting: Rc<dyn Waiting>) {
        if self.high_watermark() > above {
            return waiting.fire();
        }
        let mut watchers = self.watchers.borrow_mut();
        watchers.push(Watcher { above, waiting });
        if watchers.len() >= self.purge_at.get() {
            watchers.retain(|watcher| !watcher.waiting.is_over());
            self.purge_at.set((watchers.len() * 2).max(WATCHERS_UNPURGED));
        }
    }

    /// The partition is going away: nobody is left waiting.
    pub fn retire(&self) {
        for watcher in self.watchers.take() {
            watcher.waiting.fire();
        }
    }
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
