//! What a partition's log knows of its compaction.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::log::segment::Segment;
use crate::log::segment::extents::ExtentIndex;

use super::Swap;
use super::manifest::Manifest;
use super::settle::Settled;

/// A replacement that is committed, or may be, and not in place yet.
pub struct Halfway {
    pub(super) manifest: Manifest,
    pub(super) old: Vec<Rc<Segment>>,
    pub(super) index: Option<ExtentIndex>,
}

/// See the module's page. Most logs are never compacted, and keep nothing here.
#[derive(Default)]
pub struct Compaction {
    known: OnceCell<Box<State>>,
    /// The log is being closed: nothing more is replaced.
    stopped: Cell<bool>,
}

#[derive(Default)]
pub(super) struct State {
    /// Where the dirty part begins, once read from its file.
    pub(super) first_dirty: Cell<Option<i64>>,
    /// The groups replaced since the last checkpoint, whose manifests are still needed.
    pub(super) swaps: RefCell<Vec<Swap>>,
    pub(super) halfway: RefCell<Option<Halfway>>,
    /// Base offsets of segments that were replaced: what was said of their files is over.
    pub(super) replaced: RefCell<Vec<i64>>,
    pub(super) running: Cell<bool>,
    /// So often the disk is full when step 3 of a replacement is done.
    #[cfg(test)]
    pub(super) hinder: Cell<u32>,
    /// Why this log is not compacted any more, until the next start.
    pub(super) failed: RefCell<Option<Arc<str>>>,
}

impl Compaction {
    /// After a start that found these groups replaced past the checkpoint.
    pub fn recovered(settled: Settled) -> Self {
        let Settled { swaps, replaced, .. } = settled;
        let compaction = Self::default();
        if !(swaps.is_empty() && replaced.is_empty()) {
            let state = compaction.state();
            state.swaps.replace(swaps);
            state.replaced.replace(replaced);
        }
        compaction
    }

    pub(super) fn state(&self) -> &State {
        self.known.get_or_init(Box::default)
    }

    /// Whether the directory has no manifest: a start has nothing to finish.
    pub fn is_settled(&self) -> bool {
        self.known.get().is_none_or(|state| state.swaps.borrow().is_empty()) && !self.is_halfway()
    }

    /// Whether a replacement is committed, or may be, and not in place yet.
    pub(super) fn is_halfway(&self) -> bool {
        self.known.get().is_some_and(|state| state.halfway.borrow().is_some())
    }

    pub(super) fn is_running(&self) -> bool {
        self.known.get().is_some_and(|state| state.running.get())
    }

    /// Why this log is not compacted any more, if so.
    pub(super) fn failed(&self) -> Option<Arc<str>> {
        self.known.get().and_then(|state| state.failed.borrow().clone())
    }

    /// Base offsets of the segments that were replaced since this was last asked.
    pub fn take_replaced(&self) -> Vec<i64> {
        self.known.get().map(|state| state.replaced.take()).unwrap_or_default()
    }

    /// The groups whose manifests can go once a checkpoint made from now on is stored.
    pub fn swaps(&self) -> Vec<i64> {
        self.swaps_past(i64::MIN)
    }

    /// As [`swaps`](Self::swaps), those that reach past `offset`.
    pub fn swaps_past(&self, offset: i64) -> Vec<i64> {
        let Some(state) = self.known.get() else { return Vec::new() };
        state.swaps.borrow().iter().filter(|swap| swap.end > offset).map(|swap| swap.base).collect()
    }

    /// Their manifests are gone.
    pub fn forget(&self, bases: &[i64]) {
        if let Some(state) = self.known.get() {
            state.swaps.borrow_mut().retain(|swap| !bases.contains(&swap.base));
        }
    }

    pub fn stop(&self) {
        self.stopped.set(true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }
}
