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
mod state;
#[cfg(test)]
mod tests;
mod transactions;

use std::collections::HashMap;

use crate::model::{Offset, ProducerEpoch, ProducerId};

pub use pass::{Passed, Work};
pub use plan::Candidate;
pub(in crate::log) use state::Compaction;
pub use transactions::AbortedTransaction;

/// What the partition lets be compacted.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// The high watermark, or the first offset of the oldest open transaction if that is smaller.
    pub limit: Offset,
    /// Aborted transactions that reach below the limit.
    pub aborted: Vec<AbortedTransaction>,
    pub last_batches: HashMap<ProducerId, LastBatch>,
}

/// What the log has to keep of a producer that is still known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBatch {
    /// The last offset of its last batch of records; `None` if only a marker is left of it.
    pub data_offset: Option<Offset>,
    pub epoch: ProducerEpoch,
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
