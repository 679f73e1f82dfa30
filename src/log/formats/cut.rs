//! What the journal says of a truncation's segments, behind the entry's header, which has the offset and the leader epoch:
//! `version u8 | bincode of Cut`.

use serde::{Deserialize, Serialize};

use crate::log::segment::SegmentMeta;
use crate::model::Offset;

use super::{PartitionCheckpoint, read_versioned, write_versioned};

const VERSION: u8 = 1;

/// The segments that a truncation left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Of the segments that were known before, those from this base offset on are replaced by `segments`.
    pub from: i64,
    /// None of them is written to any more.
    pub segments: Vec<SegmentMeta>,
    /// Where the log began then: what is not listed before the first segment was deleted.
    pub start_offset: i64,
}

impl Cut {
    pub fn encode(&self) -> Vec<u8> {
        write_versioned(VERSION, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        read_versioned(VERSION, bytes)
    }

    /// The log ends at `to`. What was not in segments is the journal's to bring back, up to there.
    pub fn apply(self, to: i64, known: &mut PartitionCheckpoint) {
        known.epochs.cut_back(Offset(to));
        known.clean = false;
        if to >= known.segment_durable_offset {
            return;
        }
        known.segments.retain(|segment| segment.base_offset < self.from);
        known.segments.extend_from_slice(&self.segments);
        known.segment_durable_offset = to;
        known.start_offset = known.start_offset.max(self.start_offset);
        known.epochs.cut_front(Offset(known.start_offset));
        known.active = false;
        known.extents.clear();
    }
}
