//! Whether a log may be written to, may lead, is there at all.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;

/// What a log cannot do any more, and why.
#[derive(Default)]
pub struct Condition {
    removed: Cell<bool>,
    /// Of a log that is not well.
    reasons: RefCell<Option<Box<Reasons>>>,
}

#[derive(Default)]
struct Reasons {
    /// Why nothing more is written: a sync failed, and what the file holds is not known.
    failed: Option<Arc<str>>,
    /// Why the partition must not lead: durable data is missing.
    repair: Option<Arc<str>>,
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
        self.reasons.borrow().as_ref().is_some_and(|reasons| reasons.failed.is_some())
    }

    pub fn fail(&self, why: impl Into<Arc<str>>) {
        self.reasons.borrow_mut().get_or_insert_default().failed = Some(why.into());
    }

    pub fn check_usable(&self) -> io::Result<()> {
        match self.reasons.borrow().as_ref().and_then(|reasons| reasons.failed.as_ref()) {
            Some(why) => Err(io::Error::other(why.to_string())),
            None => Ok(()),
        }
    }

    /// The first reason stays.
    pub fn mark_for_repair(&self, why: Arc<str>) {
        self.reasons.borrow_mut().get_or_insert_default().repair.get_or_insert(why);
    }

    pub fn clear_repair(&self) {
        self.reasons.borrow_mut().iter_mut().for_each(|reasons| reasons.repair = None);
    }

    pub fn needs_repair(&self) -> Option<Arc<str>> {
        self.reasons.borrow().as_ref().and_then(|reasons| reasons.repair.clone())
    }
}
