//! End-transaction markers: control batches with one record, written by the broker and read back by it.
//!
//! ```text
//! batch: attributes transactional + control, producer id and epoch of the transaction, no sequence
//! key:   version i16 = 0 │ type i16: abort 0, commit 1
//! value: version i16 = 0 │ coordinator epoch i32
//! ```

use bytes::{BufMut, BytesMut};

use super::batch::{self, BatchHeader, HEADER_SIZE};
use super::record;

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// How a transaction ended, and the epoch of the coordinator that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    pub commit: bool,
    pub coordinator_epoch: i32,
}

/// The marker's batch, stamped with its time; offset and leader epoch are still to be stamped.
pub fn encode(marker: EndMarker, producer_id: i64, producer_epoch: i16, now_ms: i64) -> BytesMut {
    let kind = if marker.commit { COMMIT } else { ABORT };
    let mut bytes = BytesMut::with_capacity(HEADER_SIZE + 17);
    bytes.put_bytes(0, HEADER_SIZE);
    // Length 16, no attributes, no deltas, a key of 4 bytes; further down a value of 6, and no headers.
    bytes.put_slice(&[32, 0, 0, 0, 8]);
    bytes.put_i16(KEY_VERSION);
    bytes.put_i16(kind);
    bytes.put_u8(12);
    bytes.put_i16(VALUE_VERSION);
    bytes.put_i32(marker.coordinator_epoch);
    bytes.put_u8(0);
    let attributes = batch::TRANSACTIONAL | batch::CONTROL;
    batch::write_header(&mut bytes, attributes, 1, now_ms, (producer_id, producer_epoch));
    bytes
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

    #[test]
    fn markers_return() {
        for commit in [false, true] {
            let marker = EndMarker { commit, coordinator_epoch: 7 };
            let bytes = encode(marker, 4711, 3, 1_700_000_000_000);
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
        let bytes = encode(EndMarker { commit: true, coordinator_epoch: 1 }, 1, 0, 5);
        let record = [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(bytes[batch::HEADER_SIZE..], record);
    }
}
