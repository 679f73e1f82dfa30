//! What waits until it is committed: answers and commands that rest on what a machine wrote. Each machine has its own
//! queue: a partition that is slow holds up nobody else's.
//!
//! What was written counts at the high watermark of the leader epoch that it was written in, never in a later one: whoever
//! leads then may have cut it (KAFKA-20634). An answer that waits too long is told to be late; what it says happens all
//! the same, and commands wait as long as it takes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::coordinator::{Answer, Machine};
use crate::model::{Offset, PartitionId};
use crate::partition::{Replica, Waiting};
use crate::rt::Notify;
use crate::shard::deadline::Due;

/// What rests on the log up to `end`.
pub(super) struct Settling<M: Machine> {
    pub(super) end: Offset,
    pub(super) due: Due,
    pub(super) replies: Vec<Answer<M::Reply>>,
    pub(super) commands: Vec<M::Command>,
}

/// The partitions whose high watermark reached what the first in the queue waits for.
#[derive(Clone, Default)]
pub(super) struct Ripe {
    pub(super) partitions: Rc<RefCell<Vec<PartitionId>>>,
    pub(super) changed: Notify,
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
    pub(super) fn set(self: &Rc<Self>, replica: &Replica, end: Offset) {
        if !self.set.replace(true) {
            replica.watch(Offset(end.0 - 1), self.clone());
        }
    }

    /// It was fired, and is looked at.
    pub(super) fn seen(&self) {
        self.set.set(false);
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
