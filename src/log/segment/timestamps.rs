//! Finding records by time. Batches say only their largest timestamp; Kafka answers with the record, so the one batch
//! that holds it is decoded.

use std::rc::Rc;

use bytes::Bytes;

use crate::log::{LogError, Resources};
use crate::model::{LeaderEpoch, Offset};
use crate::rt;
use crate::wire::batch::{BatchHeader, HEADER_SIZE};
use crate::wire::{codec, record};

use super::Segment;

/// Plain batches up to this size are decoded in place; larger and compressed ones on a helper thread.
const INLINE_BYTES: usize = 64 << 10;

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    pub offset: Offset,
    pub timestamp: i64,
    /// Of the batch that has it.
    pub leader_epoch: LeaderEpoch,
}

/// The first record of a batch at or after `offset` whose timestamp is not below `target`.
pub async fn find_in_batch(
    batch: Bytes,
    offset: i64,
    target: i64,
    resources: &Resources,
) -> Option<TimestampOffset> {
    let header = BatchHeader::parse(&batch).ok()?;
    let limit = resources.largest_records();
    if header.attributes & 7 == 0 && batch.len() <= INLINE_BYTES {
        return decode_and_find(&batch, offset, target, limit);
    }
    let (codec, payload) = (header.compression(), batch.get(HEADER_SIZE..)?);
    let expected = codec::expected_size(codec, payload, limit) + codec::window(codec, payload).min(limit);
    let memory = resources.work().take(expected, expected).await;
    rt::blocking_within(memory, move || decode_and_find(&batch, offset, target, limit)).await.0
}

fn decode_and_find(batch: &[u8], offset: i64, target: i64, limit: usize) -> Option<TimestampOffset> {
    let header = BatchHeader::parse(batch).ok()?;
    let leader_epoch = LeaderEpoch(header.leader_epoch);
    if header.record_count == 0 || header.max_timestamp < target || header.next_offset() <= offset {
        return None;
    }
    let whole_batch = TimestampOffset {
        offset: Offset(header.base_offset.max(offset)),
        timestamp: header.max_timestamp,
        leader_epoch,
    };
    // The broker's time is every record's time, and where compaction took none, every offset has a record.
    let whole = i64::from(header.record_count) == i64::from(header.last_offset_delta) + 1;
    if header.is_log_append_time() && whole {
        return Some(whole_batch);
    }
    let mut records = Vec::new();
    let payload = batch.get(HEADER_SIZE..)?;
    let opened = codec::decompress(header.compression(), payload, limit, &mut records);
    for record in record::records(&records) {
        // A consumer that starts at the batch misses nothing; records are the clients' business.
        let Some(record) = record else { return Some(whole_batch) };
        let at = header.base_offset + i64::from(record.offset_delta);
        let timestamp = match header.is_log_append_time() {
            true => header.max_timestamp,
            false => header.base_timestamp.saturating_add(record.timestamp_delta),
        };
        if timestamp >= target && at >= offset {
            return Some(TimestampOffset { offset: Offset(at), timestamp, leader_epoch });
        }
    }
    match opened {
        Ok(()) => None,
        Err(e) => {
            log::debug!("the batch at offset {} cannot be decoded: {e}", header.base_offset);
            Some(whole_batch)
        }
    }
}

impl Segment {
    /// The first record at or after `offset` whose timestamp is not below `target`.
    pub async fn find_timestamp(
        self: &Rc<Self>,
        offset: i64,
        target: i64,
    ) -> Result<Option<TimestampOffset>, LogError> {
        let mut from = self.index().await?.find_offset(self.relative(offset)).unwrap_or(0);
        loop {
            let Some(number) = self.index().await?.find_timestamp(from, target) else { return Ok(None) };
            let Some(bytes) = self.read_extent(number).await? else { return Ok(None) };
            let mut at = 0;
            while let Some(header) = bytes.get(at..).and_then(|b| BatchHeader::parse(b).ok()) {
                let end = (at + header.size()).min(bytes.len());
                if header.max_timestamp >= target
                    && header.next_offset() > offset
                    && let Some(found) =
                        find_in_batch(bytes.slice(at..end), offset, target, &self.resources).await
                {
                    return Ok(Some(found));
                }
                at = end;
            }
            from = number + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{batch, records_at};
    use super::*;
    use kafka_wire_records::Compression;

    #[test]
    fn finds_the_record_in_every_codec() {
        for codec in
            [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
        {
            let bytes = batch(10, 3, codec, &records_at(&[5, 9, 7, 20]));
            let find = |offset, target| {
                decode_and_find(&bytes, offset, target, 1 << 20)
                    .map(|f| (f.offset.0, f.timestamp, f.leader_epoch.0))
            };
            assert_eq!(find(0, 0), Some((10, 5, 3)), "{codec:?}");
            assert_eq!(find(0, 6), Some((11, 9, 3)));
            assert_eq!(find(12, 6), Some((12, 7, 3)));
            assert_eq!(find(0, 10), Some((13, 20, 3)));
            assert_eq!(find(0, 21), None);
            assert_eq!(find(14, 0), None);
        }
    }

    #[test]
    fn the_brokers_time_is_every_remaining_records_time() {
        let mut bytes = batch(10, 3, Compression::None, &records_at(&[5, 9, 7])).to_vec();
        bytes[22] |= 8;
        let find = |bytes: &[u8], offset, target| {
            decode_and_find(bytes, offset, target, 1 << 20).map(|f| (f.offset.0, f.timestamp))
        };
        assert_eq!(find(&bytes, 0, 1), Some((10, 9)));
        assert_eq!(find(&bytes, 12, 9), Some((12, 9)));
        assert_eq!(find(&bytes, 0, 10), None);
        // As compaction leaves it: the records at 10 and 13 are gone.
        bytes[26] = 3;
        let first = record::records(&bytes[HEADER_SIZE..]).next().flatten().expect("a record").bytes.len();
        bytes.drain(HEADER_SIZE..HEADER_SIZE + first);
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[60] = 2;
        assert_eq!(find(&bytes, 0, 1), Some((11, 9)));
        assert_eq!(find(&bytes, 12, 1), Some((12, 9)));
        assert_eq!(find(&bytes, 13, 1), None);
    }

    #[test]
    fn a_batch_that_cannot_be_decoded_is_found_as_a_whole() {
        let mut bytes = batch(10, 0, Compression::None, &records_at(&[5, 9])).to_vec();
        // The first record's length.
        bytes[HEADER_SIZE] = 0x7f;
        let found = decode_and_find(&bytes, 0, 6, 1 << 20).unwrap();
        assert_eq!((found.offset.0, found.timestamp), (10, 9));
    }
}
