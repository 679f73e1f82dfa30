//! Whom a leader's replica tells that there is something new for a follower: an append, another high watermark, another log
//! start. Each is told once, until it looks again.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// Keeps count of which of its partitions have something new for one follower.
pub trait Follows {
    /// The partition in this place of it has. Called any number of times.
    fn mark(&self, place: usize);
}

#[derive(Default)]
pub(super) struct Followed {
    /// Most replicas are alone: they do not look further.
    any: Cell<bool>,
    by: RefCell<Vec<(Weak<dyn Follows>, usize)>>,
}

impl Followed {
    pub(super) fn mark(&self) {
        if self.any.get() {
            let mut by = self.by.borrow_mut();
            by.retain(|(follows, place)| {
                follows.upgrade().is_some_and(|follows| {
                    follows.mark(*place);
                    true
                })
            });
            self.any.set(!by.is_empty());
        }
    }

    pub(super) fn add(&self, follows: &Rc<dyn Follows>, place: usize) {
        self.remove(follows);
        self.by.borrow_mut().push((Rc::downgrade(follows), place));
        self.any.set(true);
    }

    pub(super) fn remove(&self, follows: &Rc<dyn Follows>) {
        let mut by = self.by.borrow_mut();
        by.retain(|(known, _)| known.upgrade().is_some_and(|known| !Rc::ptr_eq(&known, follows)));
        self.any.set(!by.is_empty());
    }
}
