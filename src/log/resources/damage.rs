//! What cannot be read back, from when a reader or the scrubber meets it until the shard marks the partition.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

/// Records at rest that cannot be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DamagedRange {
    /// The segment's base offset.
    pub segment: i64,
    /// Where in the segment's file.
    pub position: u32,
    pub length: u32,
    /// The offsets that are there: `from..until`.
    pub from: i64,
    pub until: i64,
}

/// Ranges that are kept until somebody takes them; more are found again when they are read again.
const MOST: usize = 1000;

/// The ranges that were found and not taken yet, with their logs' directories.
#[derive(Default)]
pub struct Damage(RefCell<Vec<(Rc<Path>, DamagedRange)>>);

impl Damage {
    /// A range of a segment in this directory did not read back as it was written.
    pub fn note(&self, dir: Rc<Path>, range: DamagedRange) {
        let mut found = self.0.borrow_mut();
        if found.len() < MOST && !found.iter().any(|known| known.0 == dir && known.1 == range) {
            found.push((dir, range));
        }
    }

    /// The segment has another file now.
    pub fn forget(&self, dir: &Path, segment: i64) {
        self.0.borrow_mut().retain(|(its, range)| **its != *dir || range.segment != segment);
    }

    pub fn take(&self) -> Vec<(Rc<Path>, DamagedRange)> {
        self.0.take()
    }
}
