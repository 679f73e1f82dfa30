//! What is on its way to a partition's disk, and who waits for it or for what comes after. A replica that nothing was
//! appended to, and nobody waited for, has nothing of this.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::acks::{Acks, Waiters};
use super::offsets::Offsets;
use super::waits::{Failure, Ticket, Waits};
use crate::log::Lsn;
use crate::model::Offset;

/// Somebody who waits for any of several partitions to have something new.
pub trait Waiting {
    /// Something is new. Called any number of times.
    fn fire(&self);
    /// Whether nobody waits any more.
    fn is_over(&self) -> bool;
}

struct Watcher {
    above: Offset,
    waiting: Rc<dyn Waiting>,
}

/// Watchers of a partition that may be over before the list is looked through.
const WATCHERS_UNPURGED: usize = 16;

/// See the module's page.
pub(super) struct Underway {
    /// Appended batches that no commit covers yet: their journal position and the log end they make.
    undurable: RefCell<VecDeque<(Lsn, Offset)>>,
    waiters: Waiters,
    watchers: RefCell<Vec<Watcher>>,
    purge_at: Cell<usize>,
}

impl Default for Underway {
    fn default() -> Self {
        Self {
            undurable: RefCell::default(),
            waiters: Waiters::default(),
            watchers: RefCell::default(),
            purge_at: Cell::new(WATCHERS_UNPURGED),
        }
    }
}

impl Underway {
    pub(super) fn append(&self, lsn: Lsn, end: Offset) {
        self.undurable.borrow_mut().push_back((lsn, end));
    }

    pub(super) fn is_undurable(&self) -> bool {
        !self.undurable.borrow().is_empty()
    }

    /// More is on disk, as `is_durable` tells: up to where, if that is new.
    pub(super) fn on_durable(&self, is_durable: impl Fn(Lsn) -> bool) -> Option<Offset> {
        let mut undurable = self.undurable.borrow_mut();
        let mut end = None;
        while let Some((_, offset)) = undurable.pop_front_if(|(lsn, _)| is_durable(*lsn)) {
            end = Some(offset);
        }
        end
    }

    /// The log was cut: of what was appended stays what ends as `stays` says.
    pub(super) fn cut(&self, stays: impl Fn(Offset) -> bool) {
        self.undurable.borrow_mut().retain(|(_, to)| stays(*to));
    }

    /// `ticket` waits until what ends at `end` counts as much as `acks` asks for.
    pub(super) fn wait(&self, acks: Acks, end: Offset, ticket: Ticket) {
        self.waiters.push(acks, end, ticket);
    }

    /// Answers who waited for what there is by now.
    pub(super) fn settle(&self, offsets: &Offsets, enough: bool, waits: &Waits) {
        let outcome = || if enough { Ok(()) } else { Err(Failure::TooFewReplicas) };
        self.waiters.on_durable(offsets.durable_end(), waits);
        self.waiters.on_committed(offsets.high_watermark(), outcome, waits);
    }

    /// What everybody waits for will not be.
    pub(super) fn fail(&self, why: Failure, waits: &Waits) {
        self.waiters.fail(why, waits);
    }

    /// Fires `waiting` once the high watermark is above `above`.
    pub(super) fn watch(&self, above: Offset, waiting: Rc<dyn Waiting>) {
        let mut watchers = self.watchers.borrow_mut();
        watchers.push(Watcher { above, waiting });
        if watchers.len() >= self.purge_at.get() {
            watchers.retain(|watcher| !watcher.waiting.is_over());
            self.purge_at.set((watchers.len() * 2).max(WATCHERS_UNPURGED));
        }
    }

    pub(super) fn tell_watchers(&self, high_watermark: Offset) {
        self.watchers.borrow_mut().retain(|watcher| {
            let fire = watcher.above < high_watermark;
            if fire {
                watcher.waiting.fire();
            }
            !fire && !watcher.waiting.is_over()
        });
    }

    pub(super) fn rouse_watchers(&self) {
        for watcher in self.watchers.take() {
            watcher.waiting.fire();
        }
    }
}
