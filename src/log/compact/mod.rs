//! Compaction: of each key's records below a point, the last one stays.
//!
//! ```text
//! start_offset            first dirty                    end: first uncleanable        active segment, tail
//!      | clean: a key once  |  dirty: gathered into the map   |  too young, open transaction, …  |
//!      └────────── rewritten, segment group by segment group ─┘
//! ```
//! One pass reads the dirty part and notes each key's last offset in a map of bounded size; what does not fit waits for
//! the next pass. Then every segment below the map's end is filtered into a new one, neighbours together while they
//! fit one segment, and takes the old ones' place at once (`replace`). Offsets and order stay as they were; what goes
//! leaves a gap.
//!
//! What stays although no key needs it: records behind the map's end; each active producer's last batch, emptied, for
//! its sequence; the last batch of the round, emptied, for its offset; tombstones and transaction markers until their
//! delete horizon, which the first pass that meets them writes into the batch (KIP-534); batches that cannot be decoded.
//!
//! Invariants: never the active segment, never at or past the caller's limit (high watermark, open transactions); only
//! segments that the last checkpoint lists as sealed; a batch whose bytes are not what was written ends the pass, nothing
//! is built on it; memory is the map, one slice and one batch. Nothing here knows topics or producers' requests.

mod files;
mod filter;
pub(in crate::log) mod manifest;
mod offsets;
mod pass;
mod plan;
mod point;
mod replace;
pub(in crate::log) mod settle;
#[cfg(test)]
mod tests;
mod transactions;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

pub use pass::{Passed, Work};
pub use plan::Candidate;
pub use transactions::AbortedTransaction;

/// What the partition lets be compacted.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// The high watermark, or the first offset of the oldest open transaction if that is smaller.
    pub limit: i64,
    /// Aborted transactions that reach below the limit.
    pub aborted: Vec<AbortedTransaction>,
    /// By producer id.
    pub last_batches: HashMap<i64, LastBatch>,
}

/// What the log has to keep of a producer that is still known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBatch {
    /// The last offset of its last batch of records; `None` if only a marker is left of it.
    pub data_offset: Option<i64>,
    pub epoch: i16,
}

/// The topic settings that compaction follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    pub compact: bool,
    pub min_dirty_ratio: f64,
    pub min_lag_ms: i64,
    pub max_lag_ms: i64,
    pub delete_retention_ms: i64,
    pub segment_bytes: u32,
    /// No segment grows beyond this, whatever becomes of its batches.
    pub most_bytes: u32,
}

impl From<&crate::model::topic_config::TopicConfig> for Policy {
    fn from(config: &crate::model::topic_config::TopicConfig) -> Self {
        Self {
            compact: config.cleanup_policy.compact,
            min_dirty_ratio: config.min_cleanable_dirty_ratio,
            min_lag_ms: config.min_compaction_lag_ms.max(0),
            max_lag_ms: config.max_compaction_lag_ms.max(0),
            delete_retention_ms: config.delete_retention_ms.max(0),
            segment_bytes: config.segment_bytes.min(i32::MAX as u64) as u32,
            most_bytes: i32::MAX as u32,
        }
    }
}

/// A group that was replaced: its base offset, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swap {
    pub base: i64,
    pub end: i64,
}

/// What a partition's log knows of its compaction.
#[derive(Default)]
pub struct State {
    /// Where the dirty part begins, once read from its file.
    first_dirty: Cell<Option<i64>>,
    /// The groups replaced since the last checkpoint, whose manifests are still needed.
    swaps: RefCell<Vec<Swap>>,
    halfway: RefCell<Option<replace::Halfway>>,
    /// Base offsets of segments that were replaced: what was said of their files is over.
    replaced: RefCell<Vec<i64>>,
    running: Cell<bool>,
    /// So often the disk is full when step 3 of a replacement is done.
    #[cfg(test)]
    hinder: Cell<u32>,
    /// The log is being closed: nothing more is replaced.
    stopped: Cell<bool>,
    /// Why this log is not compacted any more, until the next start.
    failed: RefCell<Option<Arc<str>>>,
}

impl State {
    /// After a start that found these groups replaced past the checkpoint.
    pub fn recovered(settled: settle::Settled) -> Self {
        let settle::Settled { swaps, replaced, .. } = settled;
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
