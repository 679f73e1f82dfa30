//! Which partitions may differ from what the last checkpoint says of them, so that the next one looks at no others.
//!
//! A log is *listed* while it differs, and while the journal has entries of it that segments have not. It differs once
//! anything that a checkpoint says of it has changed: whatever is done in its turn to change files, appends, a moved log
//! start. A turn counts when it begins and when it ends: what changes between the two is looked at in either case.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use crate::log::PartitionLog;
use crate::model::PartitionId;

/// The listed logs of a shard.
#[derive(Default)]
pub(in crate::log) struct List(RefCell<Vec<PartitionId>>);

impl List {
    /// Each once, in order.
    pub fn ids(&self) -> Vec<PartitionId> {
        let mut ids = self.0.borrow_mut();
        ids.sort_unstable();
        ids.dedup();
        ids.clone()
    }

    pub fn retain(&self, listed: impl Fn(PartitionId) -> bool) {
        self.0.borrow_mut().retain(|id| listed(*id));
    }
}

/// What a log knows of it.
#[derive(Default)]
pub(in crate::log) struct Changed {
    list: OnceCell<Rc<List>>,
    listed: Cell<bool>,
    differs: Cell<bool>,
}

impl Changed {
    fn enlist(&self, id: PartitionId) {
        if let Some(list) = self.list.get()
            && !self.listed.replace(true)
        {
            list.0.borrow_mut().push(id);
        }
    }
}

impl PartitionLog {
    /// The log differs from what the last checkpoint says.
    pub(in crate::log) fn touch(&self) {
        if !self.changed.differs.replace(true) {
            self.changed.enlist(self.id());
        }
    }

    /// From now on the log is in this list while it differs.
    pub(in crate::log) fn follow_changes(&self, list: &Rc<List>) {
        let _ = self.changed.list.set(list.clone());
        if self.changed.differs.get() {
            self.changed.enlist(self.id());
        }
    }

    /// A checkpoint takes in what the log is now: whether it differs from the last.
    pub(in crate::log) fn take_changed(&self) -> bool {
        self.changed.differs.replace(false) || self.has_turn()
    }

    /// What was taken in is written, or is as good as not taken in if it `differs`. Whoever goes on holding up the journal
    /// stays on the list.
    pub(in crate::log) fn settle_changed(&self, differs: bool) {
        self.changed.differs.set(self.changed.differs.get() || differs);
        match self.changed.differs.get() || self.oldest_tail_lsn().is_some() {
            true => self.changed.enlist(self.id()),
            false => self.changed.listed.set(false),
        }
    }

    pub(in crate::log) fn is_listed_changed(&self) -> bool {
        self.changed.listed.get()
    }
}
