//! The machines of one kind on a shard, what they wait for, and who waits for them: state, and no more.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::settling::{Ripe, Settling, Watch};
use crate::coordinator::{Answer, Machine, TimerHeap, Token};
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::rt::{Notify, oneshot};
use crate::shard::deadline::Due;

/// Why a coordinator does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the coordinator is being loaded")]
    Loading,
    #[error("the coordinator is not here")]
    NotHere,
    #[error("the coordinator has failed")]
    Failed,
    /// Nothing was done.
    #[error("fewer replicas are in sync than what it writes needs to be committed")]
    TooFewReplicas,
    /// What was done is done, and not on disk yet.
    #[error("the coordinator's answer is not on disk in time")]
    Slow,
}

pub type Answered<M> = Result<<M as Machine>::Reply, Unavailable>;

pub(super) enum Slot<M: Machine> {
    /// In this leader epoch of its partition, as long as which it serves.
    Loading(LeaderEpoch),
    Active {
        machine: M,
        epoch: LeaderEpoch,
        /// The end of the last thing it wrote.
        written: Offset,
        settling: VecDeque<Settling<M>>,
        watch: Rc<Watch>,
    },
    Failed(LeaderEpoch),
}

impl<M: Machine> Slot<M> {
    pub(super) fn epoch(&self) -> LeaderEpoch {
        match self {
            Self::Loading(epoch) | Self::Failed(epoch) | Self::Active { epoch, .. } => *epoch,
        }
    }

    /// Its machine goes.
    pub(super) fn end(&self) {
        if let Self::Active { watch, .. } = self {
            watch.end();
        }
    }
}

pub(super) struct Waiting<R> {
    pub(super) partition: PartitionId,
    pub(super) answer: oneshot::Sender<Result<R, Unavailable>>,
}

/// The machines of one kind on this shard.
pub struct Driver<M: Machine> {
    /// By partition, so that what goes over all of them does so in order.
    pub(super) slots: RefCell<BTreeMap<PartitionId, Slot<M>>>,
    pub(super) waiting: RefCell<BTreeMap<Token, Waiting<M::Reply>>>,
    pub(super) next_token: Cell<Token>,
    pub(super) timers: RefCell<TimerHeap<(PartitionId, M::Timer)>>,
    pub(super) timers_changed: Notify,
    pub(super) ripe: Ripe,
}

impl<M: Machine> Default for Driver<M> {
    fn default() -> Self {
        Self {
            slots: RefCell::default(),
            waiting: RefCell::default(),
            next_token: Cell::new(0),
            timers: RefCell::default(),
            timers_changed: Notify::new(),
            ripe: Ripe::default(),
        }
    }
}

impl<M: Machine> Driver<M> {
    /// Machines of this shard, by state: loading, serving, failed.
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for slot in self.slots.borrow().values() {
            counts[match slot {
                Slot::Loading(_) => 0,
                Slot::Active { .. } => 1,
                Slot::Failed(_) => 2,
            }] += 1;
        }
        counts
    }

    /// Looks at every machine that serves; fails while one is being loaded.
    pub fn each<T>(&self, mut look: impl FnMut(&M) -> T) -> Result<Vec<T>, Unavailable> {
        let mut seen = Vec::new();
        for slot in self.slots.borrow().values() {
            match slot {
                Slot::Active { machine, .. } => seen.push(look(machine)),
                Slot::Loading(_) => return Err(Unavailable::Loading),
                Slot::Failed(_) => {}
            }
        }
        Ok(seen)
    }

    pub(super) fn fail(&self, partition: PartitionId, why: &str) {
        log::error!("coordinator {} {partition} stops serving: {why}", M::TOPIC);
        if let Some(slot) = self.slots.borrow_mut().get_mut(&partition) {
            slot.end();
            *slot = Slot::Failed(slot.epoch());
        }
        self.turn_away(partition, Unavailable::Failed);
    }

    /// Answers everybody who waits for a partition's machine.
    pub(super) fn turn_away(&self, partition: PartitionId, why: Unavailable) {
        let gone: Vec<_> =
            self.waiting.borrow_mut().extract_if(.., |_, waiting| waiting.partition == partition).collect();
        for (_, waiting) in gone {
            waiting.answer.send(Err(why));
        }
    }

    pub(super) fn deliver(&self, answer: Answer<M::Reply>) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&answer.token) {
            waiting.answer.send(Ok(answer.reply));
        }
    }

    pub(super) fn is_settling(&self) -> bool {
        self.slots
            .borrow()
            .values()
            .any(|slot| matches!(slot, Slot::Active { settling, .. } if !settling.is_empty()))
    }

    pub(super) fn end_waits(&self, is_over: impl Fn(Due) -> bool) {
        for slot in self.slots.borrow_mut().values_mut() {
            let Slot::Active { settling, .. } = slot else { continue };
            for entry in settling.iter_mut().filter(|entry| is_over(entry.due)) {
                for answer in entry.replies.drain(..) {
                    if let Some(waiting) = self.waiting.borrow_mut().remove(&answer.token) {
                        waiting.answer.send(Err(Unavailable::Slow));
                    }
                }
            }
        }
    }

    pub(super) fn fail_settling(&self, why: &str) {
        let waits = |slot: &Slot<M>| matches!(slot, Slot::Active { settling, .. } if !settling.is_empty());
        let waiting: Vec<PartitionId> =
            self.slots.borrow().iter().filter(|(_, slot)| waits(slot)).map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|partition| self.fail(partition, why));
    }
}
