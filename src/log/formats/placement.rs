//! What a journal says of batches that went straight to their segment, in place of the batches.
//!
//! A partition that is given more than the journal can take besides writes its batches once: to the segment, synced, and
//! only then is a placement appended to the journal. It is what a checkpoint would say of the partition's files, as far
//! as that changed since the last placement or checkpoint, with the batches' headers, of which producers' state is made.
//! Recovery applies the placements to the checkpoint before it opens the partitions.

use serde::{Deserialize, Serialize};

use crate::log::PartitionCheckpoint;
use crate::wire::batch::{BatchHeader, HEADER_SIZE};

use super::{read_versioned, write_versioned};

const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Of the segments that were known before, those from this base offset on are replaced by the ones in `log`.
    pub from: i64,
    pub log: PartitionCheckpoint,
    /// The batches that no entry of the journal has: their headers, of control batches all.
    pub batches: Vec<Vec<u8>>,
}

/// As much of a batch as a placement has to have.
pub fn head(header: &BatchHeader, batch: &[u8]) -> Vec<u8> {
    if header.is_control() { batch.to_vec() } else { batch[..HEADER_SIZE.min(batch.len())].to_vec() }
}

impl Placement {
    pub fn encode(&self) -> Vec<u8> {
        write_versioned(VERSION, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        read_versioned(VERSION, bytes)
    }

    /// Brings what was known of the partition's files up to date. What is older says nothing new.
    pub fn apply(self, known: &mut PartitionCheckpoint) {
        if self.log.segment_durable_offset <= known.segment_durable_offset {
            return;
        }
        let mut segments = std::mem::take(&mut known.segments);
        segments.retain(|segment| segment.base_offset < self.from);
        segments.extend_from_slice(&self.log.segments);
        let mut epochs = self.log.epochs;
        // An epoch that began behind these batches may be told of before them only.
        known.epochs.entries().for_each(|(epoch, offset)| epochs.note(epoch, offset));
        *known = PartitionCheckpoint { segments, epochs, ..self.log };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::segment::SegmentMeta;
    use crate::model::{LeaderEpoch, Offset};

    fn files(durable: i64, bases: &[i64]) -> PartitionCheckpoint {
        PartitionCheckpoint {
            segment_durable_offset: durable,
            start_offset: 0,
            epochs: Default::default(),
            segments: bases.iter().map(|base| SegmentMeta::new(*base, 0)).collect(),
            active: true,
            extents: Vec::new(),
            clean: false,
            was_reset: false,
        }
    }

    fn placement(from: i64, durable: i64, bases: &[i64]) -> Placement {
        Placement { from, log: files(durable, bases), batches: vec![vec![1, 2, 3]] }
    }

    fn bases(files: &PartitionCheckpoint) -> Vec<i64> {
        files.segments.iter().map(|segment| segment.base_offset).collect()
    }

    #[test]
    fn placements_bring_a_checkpoint_up_to_date_and_never_back() {
        let mut known = files(50, &[0, 20, 40]);
        placement(40, 50, &[40]).apply(&mut known);
        assert_eq!((known.segment_durable_offset, bases(&known)), (50, vec![0, 20, 40]));
        placement(40, 90, &[40, 60, 80]).apply(&mut known);
        assert_eq!((known.segment_durable_offset, bases(&known)), (90, vec![0, 20, 40, 60, 80]));
        placement(40, 70, &[40, 60]).apply(&mut known);
        assert_eq!(known.segment_durable_offset, 90, "an older one");
        placement(i64::MIN, 100, &[60, 80]).apply(&mut known);
        assert_eq!((known.segment_durable_offset, bases(&known)), (100, vec![60, 80]));
    }

    #[test]
    fn an_epoch_that_began_behind_what_was_placed_is_kept() {
        let mut known = files(50, &[0]);
        [(1, 0), (4, 90)]
            .iter()
            .for_each(|(epoch, offset)| known.epochs.note(LeaderEpoch(*epoch), Offset(*offset)));
        let mut placed = placement(0, 90, &[0]);
        [(1, 0), (3, 70)]
            .iter()
            .for_each(|(epoch, offset)| placed.log.epochs.note(LeaderEpoch(*epoch), Offset(*offset)));
        placed.apply(&mut known);
        let entries: Vec<_> = known.epochs.entries().map(|(epoch, at)| (epoch.0, at.0)).collect();
        assert_eq!(entries, [(1, 0), (3, 70), (4, 90)]);
    }

    #[test]
    fn round_trips_and_is_never_taken_for_something_else() {
        let bytes = placement(40, 90, &[40, 60]).encode();
        assert_eq!(Placement::decode(&bytes).unwrap(), placement(40, 90, &[40, 60]));
        for cut in 0..bytes.len() {
            assert!(Placement::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Placement::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(Placement::decode(&[&[9], &bytes[1..]].concat()).is_err());
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, VERSION_1, "if this fails, old journals became unreadable");
    }

    const VERSION_1: &str = "0150b4000002505000010150000078780001017800000100000103010203";
}
