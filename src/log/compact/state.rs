//! What a partition's log knows of its compaction.

use std::cell::{Cell, RefCell};
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

/// See the module's page.
#[derive(Default)]
pub struct Compaction {
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
    /// The log is being closed: nothing more is replaced.
    pub(super) stopped: Cell<bool>,
    /// Why this log is not compacted any more, until the next start.
    pub(super) failed: RefCell<Option<Arc<str>>>,
}

impl Compaction {
    /// After a start that found these groups replaced past the checkpoint.
    pub fn recovered(settled: Settled) -> Self {
        let Settled { swaps, replaced, .. } = settled;
        Self { swaps: RefCell::new(swaps), replaced: RefCell::new(replaced), ..Self::default() }
    }

    /// Whether the directory has no manifest: a start has nothing to finish.
    pub fn is_settled(&self) -> bool {
        self.swaps.borrow().is_empty() && self.halfway.borrow().is_none()
    }

    /// Base offsets of the segments that were replaced since this was last asked.
    pub fn take_replaced(&self) -> Vec<i64> {
        self.replaced.take()
    }

    /// The groups whose manifests can go once a checkpoint made from now on is stored.
    pub fn swaps(&self) -> Vec<i64> {
        self.swaps.borrow().iter().map(|swap| swap.base).collect()
    }

    /// As [`swaps`](Self::swaps), those that reach past `offset`.
    pub fn swaps_past(&self, offset: i64) -> Vec<i64> {
        self.swaps.borrow().iter().filter(|swap| swap.end > offset).map(|swap| swap.base).collect()
    }

    /// Their manifests are gone.
    pub fn forget(&self, bases: &[i64]) {
        self.swaps.borrow_mut().retain(|swap| !bases.contains(&swap.base));
    }

    pub fn stop(&self) {
        self.stopped.set(true);
    }
}
