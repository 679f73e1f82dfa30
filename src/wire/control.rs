//! End-transaction markers: control batches with one record, written by the broker and read back by it.
//!
//! ```text
//! batch: attributes transactional + control, producer id and epoch of the transaction, no sequence
//! key:   version i16 = 0 │ type i16: abort 0, commit 1
//! value: version i16 = 0 │ coordinator epoch i32
//! ```

use bytes::BytesMut;

use super::batch::BatchHeader;
use super::record;
use super::records::{BatchBuilder, BatchMark};
use crate::model::{Producer, WallMs};

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// How a transaction ended, and the epoch of the coordinator that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    pub commit: bool,
    /// As it was sent; Kafka's tools end what no coordinator knows of with any number.
    pub coordinator_epoch: i32,
}

/// The marker's batch; offset and leader epoch are still to be stamped.
pub fn encode(marker: EndMarker, producer: Producer, now: WallMs) -> BytesMut {
    let mut key = [0; 4];
    key[..2].copy_from_slice(&KEY_VERSION.to_be_bytes());
    key[2..].copy_from_slice(&if marker.commit { COMMIT } else { ABORT }.to_be_bytes());
    let mut value = [0; 6];
    value[..2].copy_from_slice(&VALUE_VERSION.to_be_bytes());
    value[2..].copy_from_slice(&marker.coordinator_epoch.to_be_bytes());
    let mark = BatchMark { control: true, ..BatchMark::of_transaction(producer) };
    let mut builder = BatchBuilder::new(now.0, mark);
    builder.push(Some(&key), Some(&value));
    builder.finish()
}

/// Reads the marker of a stored batch; `None` if the batch holds none, or one that this build does not know.
pub fn decode(batch: &[u8], header: &BatchHeader) -> Option<EndMarker> {
    if !header.is_control() || header.record_count < 1 {
        return None;
    }
    let (key, value) = record::first(batch)?;
    let (key, value) = (key?, value?);
    // Later versions of key and value may be longer: what is known lies at their start.
    let version = i16::from_be_bytes(*key.first_chunk()?);
    let kind = i16::from_be_bytes(*key.get(2..)?.first_chunk()?);
    let value_version = i16::from_be_bytes(*value.first_chunk()?);
    if version < 0 || value_version < 0 || !matches!(kind, ABORT | COMMIT) {
        return None;
    }
    let coordinator_epoch = i32::from_be_bytes(*value.get(2..)?.first_chunk()?);
    Some(EndMarker { commit: kind == COMMIT, coordinator_epoch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch;

    #[test]
    fn markers_return() {
        for commit in [false, true] {
            let marker = EndMarker { commit, coordinator_epoch: 7 };
            let bytes = encode(marker, Producer::new(4711, 3), WallMs(1_700_000_000_000));
            let header = batch::check_stored(&bytes).unwrap();
            assert!(header.is_control() && header.is_transactional());
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (4711, 3, -1));
            assert_eq!((header.record_count, header.last_offset_delta), (1, 0));
            assert_eq!(decode(&bytes, &header), Some(marker));
            for cut in batch::HEADER_SIZE..bytes.len() {
                assert_eq!(decode(&bytes[..cut], &header), None, "cut at {cut}");
            }
        }
    }

    /// The bytes that Kafka 4.3 writes for the record: `DumpLogSegments` reads them.
    #[test]
    fn the_record_is_kafkas() {
        let bytes = encode(EndMarker { commit: true, coordinator_epoch: 1 }, Producer::new(1, 0), WallMs(5));
        let record = [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(bytes[batch::HEADER_SIZE..], record);
    }
}
