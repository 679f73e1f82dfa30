//! What the logs of one shard share: memory, open files, and what is found damaged.
//!
//! One budget of memory has three uses:
//! - **Pinned** ([`Batches`]): batches that no segment file holds yet. Only a flush frees them; who appends looks at
//!   [`Resources::pinned_bytes`] first and waits on [`Resources::freed`].
//! - **Cached** ([`Batches`]): flushed batches that stay for the consumers at the tail, evicted oldest flush first.
//! - **Read** ([`Kept`]): what was read back from segment files (windows of read-ahead) and their extent indexes, evicted
//!   least recently used first, at most [`READ_SHARE`] of the budget: half of it for what is kept, and half for reads
//!   under way, which take it of [`Resources::reading`] before.
//!
//! Invariants: `pinned + cached + read ≤ budget` after every change unless `pinned` alone breaks it; eviction never
//! touches a pinned batch; nothing here does I/O or waits.

mod batches;
pub mod damage;
mod kept;
mod lru;
mod open_files;
pub mod window;

use std::cell::Cell;
use std::rc::{Rc, Weak};

use crate::rt::{Budget, Notify};

use batches::Batches;
use damage::Damage;
use kept::Kept;
use window::Window;

pub use batches::{BATCH_OVERHEAD, Evict};
pub use kept::{Indexed, WindowKey};
pub use open_files::OpenFiles;

/// The part of the budget that reads from disk may use, and the least they get.
const READ_SHARE: usize = 4;
const MIN_READ_BYTES: usize = 4 << 20;
const DEFAULT_WORK_BYTES: usize = 16 << 20;
/// How many times the budget for work on records one batch may be, and how large at most.
const LARGEST_WORK: usize = 8;
const MAX_RECORDS_BYTES: usize = 128 << 20;

/// See the module's page. One per shard, shared by its partition logs.
pub struct Resources {
    budget: Cell<usize>,
    batches: Batches,
    kept: Kept,
    reading: Budget,
    work: Budget,
    files: OpenFiles,
    damage: Damage,
    next_uid: Cell<u64>,
    disk_reads: Cell<u64>,
}

fn read_share(budget: usize) -> usize {
    (budget / READ_SHARE).max(MIN_READ_BYTES)
}

impl Resources {
    pub fn new(budget: usize) -> Rc<Self> {
        Rc::new(Self {
            budget: Cell::new(budget),
            batches: Batches::new(),
            kept: Kept::default(),
            reading: Budget::new(read_share(budget) / 2),
            work: Budget::new(DEFAULT_WORK_BYTES),
            files: OpenFiles::new(),
            damage: Damage::default(),
            next_uid: Cell::new(1),
            disk_reads: Cell::default(),
        })
    }

    pub fn budget(&self) -> usize {
        self.budget.get()
    }

    /// Takes effect at once: what no longer fits is evicted.
    pub fn set_budget(&self, bytes: usize) {
        self.budget.set(bytes);
        self.reading.set_limit(read_share(bytes) / 2);
        self.shrink();
        self.freed().notify_all();
    }

    /// The cost of the batches that no segment file holds yet.
    pub fn pinned_bytes(&self) -> usize {
        self.batches.pinned()
    }

    pub fn cached_bytes(&self) -> usize {
        self.batches.cached()
    }

    /// What was read from disk and is kept: windows and indexes.
    pub fn read_bytes(&self) -> usize {
        self.kept.bytes()
    }

    /// What the shard's work on records may take: decompressing them, loading what is soon thrown away.
    pub fn work(&self) -> &Budget {
        &self.work
    }

    /// The records of one batch, decompressed, may take as much as this; what has more is left alone.
    pub fn largest_records(&self) -> usize {
        self.work.limit().saturating_mul(LARGEST_WORK).min(MAX_RECORDS_BYTES)
    }

    /// What reads from disk take until they are done.
    pub fn reading(&self) -> &Budget {
        &self.reading
    }

    pub fn files(&self) -> &OpenFiles {
        &self.files
    }

    pub(in crate::log) fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Bytes of segments that were read from disk for readers, ever.
    pub fn disk_reads(&self) -> u64 {
        self.disk_reads.get()
    }

    pub(in crate::log) fn count_disk_read(&self, bytes: usize) {
        self.disk_reads.set(self.disk_reads.get().wrapping_add(bytes as u64));
    }

    /// Rings whenever pinned memory shrank or the budget changed.
    pub fn freed(&self) -> &Notify {
        self.batches.freed()
    }

    pub(in crate::log) fn pin(&self, cost: usize) {
        self.batches.pin(cost);
        self.shrink();
    }

    /// `cost` of pinned memory, all of it below offset `below`, is in a segment file now and may be evicted.
    pub(in crate::log) fn unpin(&self, holder: Weak<dyn Evict>, below: i64, cost: usize) {
        self.batches.unpin(holder, below, cost);
        self.shrink();
        self.freed().notify_all();
    }

    /// A log goes away with what it held.
    pub(in crate::log) fn forget(&self, pinned: usize, cached: usize) {
        self.batches.forget(pinned, cached);
    }

    fn shrink(&self) {
        self.kept.shrink(self.kept_limit());
        let reads = self.kept.bytes() + self.reading.used();
        self.batches.shrink(self.budget.get().saturating_sub(reads));
    }

    /// The bytes that windows and indexes together may take.
    pub(in crate::log) fn kept_limit(&self) -> usize {
        read_share(self.budget.get()) / 2
    }

    /// Names a segment: no other of the shard has it.
    pub(in crate::log) fn next_uid(&self) -> u64 {
        let uid = self.next_uid.get();
        self.next_uid.set(uid + 1);
        uid
    }

    pub(in crate::log) fn window(&self, key: WindowKey) -> Option<Rc<Window>> {
        self.kept.window(key)
    }

    pub(in crate::log) fn keep_window(&self, key: WindowKey, window: Rc<Window>) {
        self.kept.keep_window(key, window);
        self.shrink();
    }

    pub(in crate::log) fn drop_window(&self, key: WindowKey) {
        self.kept.drop_window(key);
    }

    /// Marks a sealed segment's index as used, so that it is evicted after the others.
    pub(in crate::log) fn keep_index<T: Indexed + 'static>(&self, uid: u64, segment: &Rc<T>, bytes: usize) {
        let segment: Weak<T> = Rc::downgrade(segment);
        self.kept.keep_index(uid, segment, bytes);
        self.kept.shrink_indexes(self.kept_limit() / 2);
    }

    pub(in crate::log) fn forget_segment(&self, segment: u64) {
        self.files.close(segment);
        self.kept.forget_index(segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;

    struct Holder(RefCell<VecDeque<(i64, usize)>>);

    impl Evict for Holder {
        fn evict_below(&self, offset: i64) -> usize {
            let mut freed = 0;
            let mut batches = self.0.borrow_mut();
            while let Some((at, cost)) = batches.front().copied() {
                if at >= offset {
                    break;
                }
                freed += cost;
                batches.pop_front();
            }
            freed
        }
    }

    fn holder(batches: &[(i64, usize)]) -> Rc<Holder> {
        Rc::new(Holder(RefCell::new(batches.iter().copied().collect())))
    }

    #[test]
    fn evicts_the_oldest_flush_first_and_never_pinned_memory() {
        let cache = Resources::new(100);
        let (a, b) = (holder(&[(0, 40), (1, 40)]), holder(&[(0, 40)]));
        let weak = |h: &Rc<Holder>| -> Weak<dyn Evict> { Rc::downgrade(&(h.clone() as Rc<dyn Evict>)) };
        cache.pin(120);
        assert_eq!((cache.pinned_bytes(), cache.cached_bytes()), (120, 0));
        cache.unpin(weak(&b), 1, 40);
        assert_eq!((cache.pinned_bytes(), cache.cached_bytes()), (80, 0), "over budget: gone at once");
        cache.unpin(weak(&a), 1, 40);
        assert_eq!((cache.pinned_bytes(), cache.cached_bytes()), (40, 40));
        cache.unpin(weak(&a), 2, 40);
        assert_eq!((cache.pinned_bytes(), cache.cached_bytes()), (0, 80));
        cache.set_budget(50);
        assert_eq!(cache.cached_bytes(), 40);
        assert_eq!(a.0.borrow().front().unwrap().0, 1);
        drop(a);
        cache.set_budget(0);
        assert_eq!(cache.cached_bytes(), 40, "a log that goes away gives its memory back itself");
        cache.forget(0, 40);
        assert_eq!(cache.cached_bytes(), 0);
    }
}
