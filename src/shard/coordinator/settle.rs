//! What waits until it is committed: answers and commands that rest on what a machine wrote. Each machine has its own
//! queue: a partition that is slow holds up nobody else's.
//!
//! What was written counts at the high watermark of the leader epoch that it was written in, never in a later one: whoever
//! leads then may have cut it (KAFKA-20634). An answer that waits too long is told to be late; what it says happens all
//! the same, and commands wait as long as it takes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::{Driver, Get, Shard, Slot, Unavailable};
use crate::coordinator::{Answer, Machine};
use crate::model::{Offset, PartitionId};
use crate::partition::{Replica, Waiting};
use crate::rt::Notify;
use crate::shard::deadline::Due;

/// The longest, as Kafka's `offsets.commit.timeout.ms`.
const PATIENCE: Duration = Duration::from_secs(5);

/// What rests on the log up to `end`.
pub(super) struct Settling<M: Machine> {
    pub(super) end: Offset,
    due: Due,
    replies: Vec<Answer<M::Reply>>,
    commands: Vec<M::Command>,
}

/// The partitions whose high watermark reached what the first in the queue waits for.
#[derive(Clone, Default)]
pub(super) struct Ripe {
    partitions: Rc<RefCell<Vec<PartitionId>>>,
    changed: Notify,
}

/// A machine's place among the watchers of its partition.
pub(super) struct Watch {
    partition: PartitionId,
    ripe: Ripe,
    /// It is among them, or was fired and not looked at yet.
    set: Cell<bool>,
    over: Cell<bool>,
}

impl Watch {
    pub(super) fn new(partition: PartitionId, ripe: &Ripe) -> Rc<Self> {
        Rc::new(Self { partition, ripe: ripe.clone(), set: Cell::new(false), over: Cell::new(false) })
    }

    /// Fires once everything up to `end` is committed.
    fn set(self: &Rc<Self>, replica: &Replica, end: Offset) {
        if !self.set.replace(true) {
            replica.watch(Offset(end.0 - 1), self.clone());
        }
    }

    pub(super) fn end(&self) {
        self.over.set(true);
    }
}

impl Waiting for Watch {
    fn fire(&self) {
        self.ripe.partitions.borrow_mut().push(self.partition);
        self.ripe.changed.notify_all();
    }

    fn is_over(&self) -> bool {
        self.over.get()
    }
}

impl<M: Machine> Driver<M> {
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

impl Shard {
    /// Takes up what rests on the machine's log up to `end`, which is not committed yet.
    pub(super) fn settle<M: Machine>(
        &self,
        driver: &Driver<M>,
        replica: &Replica,
        end: Offset,
        (replies, commands): (Vec<Answer<M::Reply>>, Vec<M::Command>),
    ) {
        let due = self.deadlines.after(PATIENCE);
        if let Some(Slot::Active { settling, watch, .. }) = driver.slots.borrow_mut().get_mut(&replica.id) {
            settling.push_back(Settling { end, due, replies, commands });
            watch.set(replica, end);
        }
        self.deadlines.rouse();
    }

    pub(super) async fn run_settling<M: Machine>(self: Rc<Self>, get: Get<M>) {
        let ripe = get(&self).ripe.clone();
        loop {
            let changed = ripe.changed.listen();
            let next = ripe.partitions.borrow_mut().pop();
            match next {
                Some(partition) => self.settle_ripe(get, partition),
                None => changed.await,
            }
        }
    }

    fn settle_ripe<M: Machine>(self: &Rc<Self>, get: Get<M>, partition: PartitionId) {
        let driver = get(self);
        let Some(replica) = self.replica(partition) else { return };
        loop {
            let (entry, epoch) = {
                let mut slots = driver.slots.borrow_mut();
                let Some(Slot::Active { settling, watch, epoch, .. }) = slots.get_mut(&partition) else {
                    return;
                };
                watch.set.set(false);
                let committed =
                    if replica.leads_in(*epoch) { replica.offsets().high_watermark() } else { return };
                match settling.pop_front_if(|entry| entry.end <= committed) {
                    Some(entry) => (entry, *epoch),
                    None => {
                        if let Some(first) = settling.front() {
                            watch.set(&replica, first.end);
                        }
                        return;
                    }
                }
            };
            entry.replies.into_iter().for_each(|answer| driver.deliver(answer));
            for command in entry.commands {
                (driver.perform)(self, (partition, epoch), command);
            }
        }
    }
}
