//! What a checkpoint lists of a partition's files.

use serde::{Deserialize, Serialize};

use crate::log::segment::SegmentMeta;
use crate::log::segment::epochs::EpochList;
use crate::log::segment::extents::Extent;

/// What has to be known of a partition to open it again without reading its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCheckpoint {
    /// Everything below is in segment files, synced; everything from here on is in the journal.
    pub segment_durable_offset: i64,
    pub start_offset: i64,
    pub epochs: EpochList,
    /// Oldest first. With `active`, the last one's size is the valid position in the active segment.
    pub segments: Vec<SegmentMeta>,
    pub active: bool,
    /// Checksums of the end of the active segment, as far as its sidecar may lack them.
    pub extents: Vec<Extent>,
    /// The log was closed in order: files are exactly as described here, and there are no others.
    pub clean: bool,
    /// The journal has a reset of the log: what says that segments were deleted may be of before.
    #[serde(skip)]
    pub was_reset: bool,
}

impl PartitionCheckpoint {
    /// Of a log that has no files.
    pub fn nothing() -> Self {
        Self {
            segment_durable_offset: 0,
            start_offset: 0,
            epochs: Default::default(),
            segments: Vec::new(),
            active: false,
            extents: Vec::new(),
            clean: false,
            was_reset: false,
        }
    }
}
