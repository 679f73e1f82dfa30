//! The memory that one shard's logs may hold: one budget, three uses.
//!
//! - **Pinned**: batches that no segment file holds yet. Only a flush frees them; who appends looks at
//!   [`BatchCache::pinned_bytes`] first and waits on [`BatchCache::freed`].
//! - **Cached**: flushed batches that stay for the consumers at the tail, evicted oldest flush first.
//! - **Read**: what was read back from segment files (windows of read-ahead) and their extent indexes, evicted least
//!   recently used first, at most [`READ_SHARE`] of the budget: half of it for what is kept, and half for reads under
//!   way, which are a [`Budget`] that who reads takes of before.
//!
//! Invariants: `pinned + cached + read ≤ budget` after every change unless `pinned` alone breaks it; eviction never
//! touches a pinned batch; nothing here does I/O or waits.

pub mod damage;
mod lru;
pub mod window;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::rc::{Rc, Weak};

use crate::rt::{Budget, File, Notify};

use damage::DamagedRange;
use lru::Lru;
use window::Window;

/// What a batch costs beside its bytes: its place in the queue and its share of a reference-counted buffer.
pub const BATCH_OVERHEAD: usize = 128;
/// The part of the budget that reads from disk may use, and the least they get.
const READ_SHARE: usize = 4;
const MIN_READ_BYTES: usize = 4 << 20;
const DEFAULT_WORK_BYTES: usize = 16 << 20;
/// How many times the budget for work on records one batch may be, and how large at most.
const LARGEST_WORK: usize = 8;
const MAX_RECORDS_BYTES: usize = 128 << 20;
/// Open segment files a shard keeps.
const DEFAULT_OPEN_FILES: usize = 128;
/// The same, at least, when descriptors have run out; and how many more at a time once they may suffice again.
const FEW_OPEN_FILES: usize = 4;

/// Something that holds cached batches and gives them up.
pub trait Evict {
    /// Drops the unpinned batches below `offset`; returns the cost given back.
    fn evict_below(&self, offset: i64) -> usize;
}

/// Something that can read its index again.
pub trait Indexed {
    fn drop_index(&self);
}

struct Evictable {
    holder: Weak<dyn Evict>,
    below: i64,
}

/// See the module's page. One per shard, shared by its partition logs.
pub struct BatchCache {
    budget: Cell<usize>,
    pinned: Cell<usize>,
    cached: Cell<usize>,
    evictable: RefCell<VecDeque<Evictable>>,
    freed: Notify,
    next_uid: Cell<u64>,
    max_files: Cell<usize>,
    /// As many files stay open for now: descriptors ran out.
    bound: Cell<usize>,
    files: RefCell<Lru<u64, File>>,
    reading: Budget,
    work: Budget,
    windows: RefCell<Lru<WindowKey, Rc<Window>>>,
    indexes: RefCell<Lru<u64, Weak<dyn Indexed>>>,
    disk_reads: Cell<u64>,
    out_of_files: Cell<u64>,
    damage: RefCell<Vec<(Rc<Path>, DamagedRange)>>,
}

fn read_share(budget: usize) -> usize {
    (budget / READ_SHARE).max(MIN_READ_BYTES)
}

/// Damaged ranges that are kept until somebody takes them; more are found again when they are read again.
const MAX_DAMAGE: usize = 1000;

/// One window of one segment; `end` tells the grown last window of an active segment from its shorter self.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::log) struct WindowKey {
    pub segment: u64,
    pub start: u32,
    pub end: u32,
}

impl BatchCache {
    pub fn new(budget: usize) -> Rc<Self> {
        Rc::new(Self {
            reading: Budget::new(read_share(budget) / 2),
            work: Budget::new(DEFAULT_WORK_BYTES),
            budget: Cell::new(budget),
            pinned: Cell::default(),
            cached: Cell::default(),
            evictable: RefCell::default(),
            freed: Notify::new(),
            next_uid: Cell::new(1),
            max_files: Cell::new(DEFAULT_OPEN_FILES),
            bound: Cell::new(usize::MAX),
            files: RefCell::default(),
            windows: RefCell::default(),
            indexes: RefCell::default(),
            disk_reads: Cell::default(),
            out_of_files: Cell::default(),
            damage: RefCell::default(),
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
        self.freed.notify_all();
    }

    /// How many segment files the shard keeps open; others are opened per use.
    pub fn set_open_files(&self, files: usize) {
        self.max_files.set(files.max(1));
        self.trim_files();
    }

    /// The cost of the batches that no segment file holds yet.
    pub fn pinned_bytes(&self) -> usize {
        self.pinned.get()
    }

    pub fn cached_bytes(&self) -> usize {
        self.cached.get()
    }

    /// What was read from disk and is kept: windows and indexes.
    pub fn read_bytes(&self) -> usize {
        self.windows.borrow().weight() + self.indexes.borrow().weight()
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

    /// Bytes of segments that were read from disk for readers, ever.
    pub fn disk_reads(&self) -> u64 {
        self.disk_reads.get()
    }

    pub(in crate::log) fn count_disk_read(&self, bytes: usize) {
        self.disk_reads.set(self.disk_reads.get().wrapping_add(bytes as u64));
    }

    pub fn open_files(&self) -> usize {
        self.files.borrow().len()
    }

    /// Rings whenever pinned memory shrank or the budget changed.
    pub fn freed(&self) -> &Notify {
        &self.freed
    }

    pub(in crate::log) fn pin(&self, cost: usize) {
        self.pinned.set(self.pinned.get() + cost);
        self.shrink();
    }

    /// `cost` of pinned memory, all of it below offset `below`, is in a segment file now and may be evicted.
    pub(in crate::log) fn unpin(&self, holder: Weak<dyn Evict>, below: i64, cost: usize) {
        self.pinned.set(self.pinned.get() - cost);
        self.cached.set(self.cached.get() + cost);
        self.evictable.borrow_mut().push_back(Evictable { holder, below });
        self.shrink();
        self.freed.notify_all();
    }

    /// A log goes away with what it held.
    pub(in crate::log) fn forget(&self, pinned: usize, cached: usize) {
        self.pinned.set(self.pinned.get() - pinned);
        self.cached.set(self.cached.get() - cached);
        self.freed.notify_all();
    }

    fn shrink(&self) {
        while self.read_bytes() > self.kept_limit() {
            let Some((_, window)) = self.windows.borrow_mut().pop_oldest() else { break };
            drop(window);
        }
        self.shrink_indexes();
        let reads = self.read_bytes() + self.reading.used();
        while self.pinned.get() + self.cached.get() + reads > self.budget.get() {
            let Some(oldest) = self.evictable.borrow_mut().pop_front() else { break };
            if let Some(holder) = oldest.holder.upgrade() {
                let freed = holder.evict_below(oldest.below);
                self.cached.set(self.cached.get() - freed);
            }
        }
    }

    fn shrink_indexes(&self) {
        while self.indexes.borrow().weight() > self.kept_limit() / 2 {
            let Some((_, segment)) = self.indexes.borrow_mut().pop_oldest() else { break };
            if let Some(segment) = segment.upgrade() {
                segment.drop_index();
            }
        }
    }

    /// The bytes that windows and indexes together may take.
    pub(in crate::log) fn kept_limit(&self) -> usize {
        read_share(self.budget.get()) / 2
    }

    pub(in crate::log) fn next_uid(&self) -> u64 {
        let uid = self.next_uid.get();
        self.next_uid.set(uid + 1);
        uid
    }

    pub(in crate::log) fn file(&self, segment: u64) -> Option<File> {
        self.files.borrow_mut().get(&segment).cloned()
    }

    pub(in crate::log) fn keep_file(&self, segment: u64, file: File) {
        self.files.borrow_mut().insert(segment, file, 1);
        self.trim_files();
    }

    fn trim_files(&self) {
        while self.files.borrow().len() > self.max_files.get().min(self.bound.get()) {
            self.files.borrow_mut().pop_oldest();
        }
    }

    /// Descriptors ran out. Closes half of the open files, those used least recently, and keeps as few open for a
    /// while; false if there are none.
    pub(in crate::log) fn close_some_files(&self) -> bool {
        let open = self.files.borrow().len();
        let count = open.div_ceil(2);
        for _ in 0..count {
            self.files.borrow_mut().pop_oldest();
        }
        self.bound.set((open - count).max(FEW_OPEN_FILES));
        self.out_of_files.set(self.out_of_files.get() + 1);
        count > 0
    }

    /// Lets a few more files stay open than when descriptors ran out.
    pub(in crate::log) fn allow_more_files(&self) {
        self.bound.set(self.bound.get().saturating_add(FEW_OPEN_FILES));
    }

    /// How often a file could not be opened for want of descriptors.
    pub fn out_of_files(&self) -> u64 {
        self.out_of_files.get()
    }

    pub(in crate::log) fn close_file(&self, segment: u64) {
        self.files.borrow_mut().remove(&segment);
    }

    pub(in crate::log) fn window(&self, key: WindowKey) -> Option<Rc<Window>> {
        self.windows.borrow_mut().get(&key).cloned()
    }

    pub(in crate::log) fn keep_window(&self, key: WindowKey, window: Rc<Window>) {
        self.windows.borrow_mut().insert(key, window, (key.end - key.start) as usize + BATCH_OVERHEAD);
        self.shrink();
    }

    pub(in crate::log) fn drop_window(&self, key: WindowKey) {
        self.windows.borrow_mut().remove(&key);
    }

    /// A range of a segment in this directory did not read back as it was written.
    pub(in crate::log) fn note_damage(&self, dir: Rc<Path>, range: DamagedRange) {
        let mut damage = self.damage.borrow_mut();
        if damage.len() < MAX_DAMAGE && !damage.iter().any(|known| known.0 == dir && known.1 == range) {
            damage.push((dir, range));
        }
    }

    /// The segment has another file now.
    pub(in crate::log) fn forget_damage(&self, dir: &Path, segment: i64) {
        self.damage.borrow_mut().retain(|(its, range)| **its != *dir || range.segment != segment);
    }

    pub(in crate::log) fn take_damage(&self) -> Vec<(Rc<Path>, DamagedRange)> {
        std::mem::take(&mut self.damage.borrow_mut())
    }

    /// Marks a sealed segment's index as used, so that it is evicted after the others.
    pub(in crate::log) fn keep_index<T: Indexed + 'static>(&self, uid: u64, segment: &Rc<T>, bytes: usize) {
        let segment: Weak<T> = Rc::downgrade(segment);
        self.indexes.borrow_mut().insert(uid, segment, bytes);
        self.shrink_indexes();
    }

    pub(in crate::log) fn forget_segment(&self, segment: u64) {
        self.files.borrow_mut().remove(&segment);
        self.indexes.borrow_mut().remove(&segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let cache = BatchCache::new(100);
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

    #[test]
    fn few_files_stay_open_after_descriptors_ran_out() {
        crate::rt::block_on(async {
            let cache = BatchCache::new(0);
            let keep = |uids: std::ops::Range<u64>| {
                for uid in uids {
                    let file = File::open("/proc/self/exe", crate::rt::OpenOptions::default()).unwrap();
                    cache.keep_file(uid, file);
                }
            };
            keep(0..20);
            assert!(cache.close_some_files());
            assert_eq!(cache.open_files(), 10);
            keep(20..40);
            assert_eq!(cache.open_files(), 10, "what was given up is not taken again at once");
            while cache.open_files() > 0 {
                assert!(cache.close_some_files());
            }
            assert!(!cache.close_some_files());
            keep(0..20);
            assert_eq!(cache.open_files(), FEW_OPEN_FILES);
            cache.allow_more_files();
            keep(0..20);
            assert_eq!(cache.open_files(), 2 * FEW_OPEN_FILES);
        });
    }
}
