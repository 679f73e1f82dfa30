//! Reading batches from bytes that nothing vouches for yet: a file whose index is missing or behind.

use crate::wire::batch::{self, BatchHeader};
use crate::wire::control::{self, EndMarker};

use super::extents::ExtentIndex;
use super::meta::SegmentMeta;

/// Smallest read while scanning; a batch that is larger is read whole.
pub const SCAN_BYTES: usize = 1 << 20;
const HEADER_BYTES: usize = 61;
/// A length above this is not a batch's: no request frame is larger.
const MAX_BATCH_BYTES: usize = crate::model::limits::MAX_FRAME_BYTES;

/// A batch of a producer.
pub type Scanned = (BatchHeader, Option<EndMarker>);

/// Walks over batches, checks each (layout, offsets that follow, CRC-32C) and adds it to an index.
pub struct Scanner {
    pub meta: SegmentMeta,
    pub index: ExtentIndex,
    /// Epochs in the order found: (leader epoch, base offset) of each batch that starts a new one.
    pub epochs: Vec<(i32, i64)>,
    /// The batches of producers, with what those that end a transaction say, for who asks.
    pub batches: Option<Vec<Scanned>>,
    /// Whether a batch whose own checksum fails ends the scan, or is condemned and skipped.
    condemn: bool,
    last_epoch: i32,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes were taken; go on behind them with at least the second number of bytes.
    Need { taken: usize, bytes: usize },
    /// No batch starts behind the bytes taken.
    End { taken: usize, what: &'static str },
}

impl Scanner {
    /// Starts behind what `meta` and `index` already describe.
    pub fn new(meta: SegmentMeta, index: ExtentIndex, condemn: bool) -> Self {
        Self { meta, index, epochs: Vec::new(), batches: None, condemn, last_epoch: -1 }
    }

    /// Feeds what was read of the `left` bytes to come when `asked` of them were wanted. How many to ask for next, or why
    /// no batch follows.
    pub fn go_on(&mut self, bytes: &[u8], asked: usize, left: usize) -> Result<usize, &'static str> {
        match self.feed(bytes) {
            Step::Need { taken, bytes: need }
                if bytes.len() == asked && (taken == left || need <= left - taken) =>
            {
                Ok(need)
            }
            Step::Need { .. } => Err("the file ends within a batch"),
            Step::End { what, .. } => Err(what),
        }
    }

    /// Takes whole batches from the front of `bytes`, which continue where the last call's taken bytes ended.
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            if rest.len() < HEADER_BYTES {
                return Step::Need { taken, bytes: HEADER_BYTES };
            }
            let header = match BatchHeader::parse(rest) {
                Ok(header) => header,
                Err(_) => return Step::End { taken, what: "no batch header" },
            };
            let size = header.size();
            if !(HEADER_BYTES..=MAX_BATCH_BYTES).contains(&size) {
                return Step::End { taken, what: "a batch length that cannot be" };
            }
            if header.base_offset < self.meta.next_offset || header.last_offset_delta < 0 {
                return Step::End { taken, what: "an offset that does not follow" };
            }
            if header.next_offset() - self.meta.base_offset > i64::from(u32::MAX) {
                return Step::End { taken, what: "an offset that no segment reaches" };
            }
            let Some(batch) = rest.get(..size) else { return Step::Need { taken, bytes: size } };
            if !self.take(&header, batch) {
                return Step::End { taken, what: "a batch whose checksum does not match" };
            }
            taken += size;
        }
    }

    fn take(&mut self, header: &BatchHeader, bytes: &[u8]) -> bool {
        // What compaction emptied has no record at any time.
        let newest = if header.record_count > 0 { header.max_timestamp } else { -1 };
        let relative = (header.base_offset - self.meta.base_offset) as u32;
        if batch::checksum(bytes) == header.crc {
            self.index.push_batch(relative, newest, bytes);
            if let Some(batches) = self.batches.as_mut().filter(|_| header.has_producer_id()) {
                batches.push((*header, control::decode(bytes, header)));
            }
        } else if self.condemn {
            self.index.push_condemned(relative, crc32fast::hash(bytes), bytes.len() as u32);
        } else {
            return false;
        }
        if header.leader_epoch > self.last_epoch {
            self.last_epoch = header.leader_epoch;
            self.epochs.push((header.leader_epoch, header.base_offset));
        }
        self.meta.push(header.base_offset, header.next_offset(), newest, bytes.len());
        true
    }
}
