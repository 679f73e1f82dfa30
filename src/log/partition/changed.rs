//! Which partitions may differ from what the last checkpoint says of them, so that the next one looks at no others.
//!
//! A log is *listed* while it differs, and while the journal has entries of it that segments have not. It differs once
//! anything that a checkpoint says of it has changed: whatever is done in its turn to change files, appends, a moved log
//! start. A turn counts when it begins and when it ends: what changes between the two is looked at in either case.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use crate::model::PartitionId;

/// The listed logs of a shard.
#[derive(Default)]
pub struct List(RefCell<Vec<PartitionId>>);

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
pub struct Changed {
    id: PartitionId,
    list: OnceCell<Rc<List>>,
    listed: Cell<bool>,
    differs: Cell<bool>,
}

impl Changed {
    pub fn new(id: PartitionId) -> Self {
        Self { id, list: OnceCell::new(), listed: Cell::new(false), differs: Cell::new(false) }
    }

    fn enlist(&self) {
        if let Some(list) = self.list.get()
            && !self.listed.replace(true)
        {
            list.0.borrow_mut().push(self.id);
        }
    }

    /// The log differs from what the last checkpoint says.
    pub fn touch(&self) {
        if !self.differs.replace(true) {
            self.enlist();
        }
    }

    /// From now on the log is in this list while it differs.
    pub fn follow(&self, list: &Rc<List>) {
        let _ = self.list.set(list.clone());
        if self.differs.get() {
            self.enlist();
        }
    }

    /// A checkpoint takes in what the log is now: whether it differs from the last.
    pub fn take(&self) -> bool {
        self.differs.replace(false)
    }

    /// What was taken in is written, or is as good as not taken in if it `differs`. Whoever goes on holding up the
    /// journal stays on the list.
    pub fn settle(&self, differs: bool, holds_up_the_journal: bool) {
        self.differs.set(self.differs.get() || differs);
        match self.differs.get() || holds_up_the_journal {
            true => self.enlist(),
            false => self.listed.set(false),
        }
    }

    pub fn is_listed(&self) -> bool {
        self.listed.get()
    }
}
