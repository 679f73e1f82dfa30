//! Finding records by time. Batches say only their largest timestamp; Kafka answers with the record, so the one batch
//! that holds it is decoded.

use std::rc::Rc;

use bytes::Bytes;
use kafka_wire_core::DecodeLimits;
use kafka_wire_records::{RecordBatch, RecordDecodeLimits};

use crate::log::LogError;
use crate::rt;
use crate::wire::batch::BatchHeader;

use super::Segment;

/// Plain batches up to this size are decoded in place; larger and compressed ones on a helper thread.
const INLINE_BYTES: usize = 64 << 10;
const MAX_RECORDS_BYTES: usize = 128 << 20;
const MAX_RECORDS: usize = 16 << 20;

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

/// The first record of a batch at or after `offset` whose timestamp is not below `target`.
pub async fn find_in_batch(batch: Bytes, offset: i64, target: i64) -> Option<TimestampOffset> {
    let plain = BatchHeader::parse(&batch).is_ok_and(|h| h.attributes & 7 == 0);
    if plain && batch.len() <= INLINE_BYTES {
        return decode_and_find(batch, offset, target);
    }
    rt::blocking(move || decode_and_find(batch, offset, target)).await
}

fn decode_and_find(mut batch: Bytes, offset: i64, target: i64) -> Option<TimestampOffset> {
    let header = BatchHeader::parse(&batch).ok()?;
    let leader_epoch = header.leader_epoch;
    let whole_batch = TimestampOffset {
        offset: header.base_offset.max(offset),
        timestamp: header.max_timestamp,
        leader_epoch,
    };
    // The broker's time is every record's time.
    if header.is_log_append_time() {
        return (header.max_timestamp >= target && header.next_offset() > offset).then_some(whole_batch);
    }
    let mut wire = DecodeLimits::default();
    wire.max_array_elements = MAX_RECORDS;
    wire.max_bytes_bytes = MAX_RECORDS_BYTES;
    let limits = RecordDecodeLimits::new(MAX_RECORDS_BYTES, MAX_RECORDS_BYTES, wire);
    match RecordBatch::decode(&mut batch, limits) {
        Ok(decoded) => decoded.records.iter().find_map(|record| {
            let at = decoded.base_offset + i64::from(record.offset_delta);
            let timestamp = decoded.base_timestamp.saturating_add(record.timestamp_delta);
            let found = timestamp >= target && at >= offset;
            found.then_some(TimestampOffset { offset: at, timestamp, leader_epoch })
        }),
        // A consumer that starts at the batch misses nothing; records are the clients' business.
        Err(e) => {
            log::debug!("the batch at offset {} cannot be decoded: {e}", header.base_offset);
            (header.next_offset() > offset && header.max_timestamp >= target).then_some(whole_batch)
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
                    && let Some(found) = find_in_batch(bytes.slice(at..end), offset, target).await
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
                decode_and_find(bytes.clone(), offset, target)
                    .map(|f| (f.offset, f.timestamp, f.leader_epoch))
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
    fn a_batch_that_cannot_be_decoded_is_found_as_a_whole() {
        let mut bytes = batch(10, 0, Compression::None, &records_at(&[5, 9])).to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let found = decode_and_find(bytes.into(), 0, 6).unwrap();
        assert_eq!((found.offset, found.timestamp), (10, 9));
    }
}
