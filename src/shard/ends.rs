//! The ends of transactions that coordinators of this shard carry out.

use std::cell::RefCell;

use crate::coordinator::Ms;
use crate::coordinator::txn::marking::Marking;
use crate::model::{BrokerId, PartitionId};
use crate::rt::{Listen, Notify};

pub(super) struct Ends {
    marking: RefCell<Marking>,
    /// The time at which the next of them is due is another.
    changed: Notify,
}

impl Ends {
    pub fn new(me: BrokerId) -> Self {
        Self { marking: RefCell::new(Marking::new(me)), changed: Notify::new() }
    }

    /// Ends that are not carried out yet.
    pub fn len(&self) -> usize {
        self.marking.borrow().len()
    }

    /// The coordinator of a partition is not here any more, or another one is.
    pub fn forget(&self, coordinator: PartitionId) {
        self.marking.borrow_mut().forget(coordinator);
    }

    /// Gives them one event.
    pub fn step(&self, event: impl FnOnce(&mut Marking)) {
        let mut marking = self.marking.borrow_mut();
        let before = marking.next_at();
        event(&mut marking);
        if marking.next_at() != before {
            self.changed.notify_all();
        }
    }

    /// When one of them is to be tried again.
    pub fn next_at(&self) -> Option<Ms> {
        self.marking.borrow().next_at()
    }

    /// Resolves once [`Self::next_at`] changes.
    pub fn changed(&self) -> Listen {
        self.changed.listen()
    }
}
