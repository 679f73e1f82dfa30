//! Whether a log may be written to, may lead, is there at all.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;

/// What a log cannot do any more, and why.
#[derive(Default)]
pub struct Condition {
    removed: Cell<bool>,
    /// Why nothing more is written: a sync failed, and what the file holds is not known.
    failed: RefCell<Option<Arc<str>>>,
    /// Why the partition must not lead: durable data is missing.
    repair: RefCell<Option<Arc<str>>>,
}

impl Condition {
    pub fn is_removed(&self) -> bool {
        self.removed.get()
    }

    /// Whether this removed it.
    pub fn remove(&self) -> bool {
        !self.removed.replace(true)
    }

    pub fn has_failed(&self) -> bool {
        self.failed.borrow().is_some()
    }

    pub fn fail(&self, why: impl Into<Arc<str>>) {
        *self.failed.borrow_mut() = Some(why.into());
    }

    pub fn check_usable(&self) -> io::Result<()> {
        match &*self.failed.borrow() {
            Some(why) => Err(io::Error::other(why.to_string())),
            None => Ok(()),
        }
    }

    /// The first reason stays.
    pub fn mark_for_repair(&self, why: Arc<str>) {
        self.repair.borrow_mut().get_or_insert(why);
    }

    pub fn clear_repair(&self) {
        *self.repair.borrow_mut() = None;
    }

    pub fn needs_repair(&self) -> Option<Arc<str>> {
        self.repair.borrow().clone()
    }
}
