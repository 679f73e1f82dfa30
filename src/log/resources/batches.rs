//! The memory of batches: pinned until a segment file holds them, then cached for the consumers at the tail.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Weak;

use crate::rt::Notify;

/// What a batch costs beside its bytes: its place in the queue and its share of a reference-counted buffer.
pub const BATCH_OVERHEAD: usize = 128;

/// Something that holds cached batches and gives them up.
pub trait Evict {
    /// Drops the unpinned batches below `offset`; returns the cost given back.
    fn evict_below(&self, offset: i64) -> usize;
}

struct Evictable {
    holder: Weak<dyn Evict>,
    below: i64,
}

/// What batches cost, and whose are evicted next: those that were flushed first.
pub struct Batches {
    pinned: Cell<usize>,
    cached: Cell<usize>,
    evictable: RefCell<VecDeque<Evictable>>,
    freed: Notify,
}

impl Batches {
    pub fn new() -> Self {
        Self {
            pinned: Cell::default(),
            cached: Cell::default(),
            evictable: RefCell::default(),
            freed: Notify::new(),
        }
    }

    /// The cost of the batches that no segment file holds yet.
    pub fn pinned(&self) -> usize {
        self.pinned.get()
    }

    pub fn cached(&self) -> usize {
        self.cached.get()
    }

    /// Rings whenever pinned memory shrank or there is more of it.
    pub fn freed(&self) -> &Notify {
        &self.freed
    }

    pub fn pin(&self, cost: usize) {
        self.pinned.set(self.pinned.get() + cost);
    }

    /// `cost` of pinned memory, all of it below offset `below`, may be evicted now.
    pub fn unpin(&self, holder: Weak<dyn Evict>, below: i64, cost: usize) {
        self.pinned.set(self.pinned.get() - cost);
        self.cached.set(self.cached.get() + cost);
        self.evictable.borrow_mut().push_back(Evictable { holder, below });
    }

    /// A log goes away with what it held.
    pub fn forget(&self, pinned: usize, cached: usize) {
        self.pinned.set(self.pinned.get() - pinned);
        self.cached.set(self.cached.get() - cached);
        self.freed.notify_all();
    }

    /// Evicts what was flushed first until all batches cost no more than this, or none of them can be evicted.
    pub fn shrink(&self, most: usize) {
        while self.pinned.get() + self.cached.get() > most {
            let Some(oldest) = self.evictable.borrow_mut().pop_front() else { break };
            if let Some(holder) = oldest.holder.upgrade() {
                let freed = holder.evict_below(oldest.below);
                self.cached.set(self.cached.get() - freed);
            }
        }
    }
}
