//! The segment files that a shard keeps open.

use std::cell::{Cell, RefCell};

use crate::rt::File;

use super::lru::Lru;

/// Open segment files a shard keeps.
const DEFAULT_OPEN_FILES: usize = 128;
/// The same, at least, when descriptors have run out; and how many more at a time once they may suffice again.
const FEW_OPEN_FILES: usize = 4;

/// Files by their segment's uid; those used least recently are closed first.
pub struct OpenFiles {
    files: RefCell<Lru<u64, File>>,
    most: Cell<usize>,
    /// As many stay open for now: descriptors ran out.
    bound: Cell<usize>,
    ran_out: Cell<u64>,
}

impl OpenFiles {
    pub fn new() -> Self {
        Self {
            files: RefCell::default(),
            most: Cell::new(DEFAULT_OPEN_FILES),
            bound: Cell::new(usize::MAX),
            ran_out: Cell::default(),
        }
    }

    /// How many segment files the shard keeps open; others are opened per use.
    pub fn set_limit(&self, files: usize) {
        self.most.set(files.max(1));
        self.trim();
    }

    pub fn count(&self) -> usize {
        self.files.borrow().len()
    }

    /// How often a file could not be opened for want of descriptors.
    pub fn ran_out(&self) -> u64 {
        self.ran_out.get()
    }

    pub(in crate::log) fn get(&self, segment: u64) -> Option<File> {
        self.files.borrow_mut().get(&segment).cloned()
    }

    pub(in crate::log) fn keep(&self, segment: u64, file: File) {
        self.files.borrow_mut().insert(segment, file, 1);
        self.trim();
    }

    pub(in crate::log) fn close(&self, segment: u64) {
        self.files.borrow_mut().remove(&segment);
    }

    fn trim(&self) {
        while self.files.borrow().len() > self.most.get().min(self.bound.get()) {
            self.files.borrow_mut().pop_oldest();
        }
    }

    /// Descriptors ran out. Closes half of the open files, those used least recently, and keeps as few open for a
    /// while; false if there are none.
    pub(in crate::log) fn close_some(&self) -> bool {
        let open = self.count();
        let closed = open.div_ceil(2);
        for _ in 0..closed {
            self.files.borrow_mut().pop_oldest();
        }
        self.bound.set((open - closed).max(FEW_OPEN_FILES));
        self.ran_out.set(self.ran_out.get() + 1);
        closed > 0
    }

    /// Lets a few more files stay open than when descriptors ran out.
    pub(in crate::log) fn allow_more(&self) {
        self.bound.set(self.bound.get().saturating_add(FEW_OPEN_FILES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_stay_open_after_descriptors_ran_out() {
        crate::rt::block_on(async {
            let files = OpenFiles::new();
            let keep = |uids: std::ops::Range<u64>| {
                for uid in uids {
                    let file = File::open("/proc/self/exe", crate::rt::OpenOptions::default()).unwrap();
                    files.keep(uid, file);
                }
            };
            keep(0..20);
            assert!(files.close_some());
            assert_eq!(files.count(), 10);
            keep(20..40);
            assert_eq!(files.count(), 10, "what was given up is not taken again at once");
            while files.count() > 0 {
                assert!(files.close_some());
            }
            assert!(!files.close_some());
            keep(0..20);
            assert_eq!(files.count(), FEW_OPEN_FILES);
            files.allow_more();
            keep(0..20);
            assert_eq!(files.count(), 2 * FEW_OPEN_FILES);
        });
    }
}
