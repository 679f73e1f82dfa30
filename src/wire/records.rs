//! Records of the broker's own making: batches that coordinators append to internal topics, and reading them back.
//!
//! A record is `length varint │ attributes i8 │ timestamp delta varlong │ offset delta varint │ key │ value │ headers`,
//! key and value each with a varint length, -1 for null. Batches are written without compression; reading takes any.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_records::{RecordBatch, RecordDecodeLimits, RecordError};

use super::batch::{self, HEADER_SIZE, PREFIX_SIZE};
use crate::model::Producer;

const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Whose batch it is; [`BatchMark::default`] is nobody's.
#[derive(Clone, Copy, Debug)]
pub struct BatchMark {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub transactional: bool,
    pub control: bool,
}

impl Default for BatchMark {
    fn default() -> Self {
        Self { producer_id: -1, producer_epoch: -1, base_sequence: -1, transactional: false, control: false }
    }
}

impl BatchMark {
    /// Of a coordinator's batch, which belongs to a producer's transaction and has no sequence.
    pub fn of_transaction(producer: Producer) -> Self {
        let (producer_id, producer_epoch) = (producer.id.0, producer.epoch.0);
        Self { producer_id, producer_epoch, transactional: true, ..Self::default() }
    }
}

/// Builds one batch whose records all carry the same time.
pub struct BatchBuilder {
    out: BytesMut,
    count: i32,
    timestamp: i64,
    mark: BatchMark,
}

impl BatchBuilder {
    pub fn new(timestamp: i64, mark: BatchMark) -> Self {
        let mut out = BytesMut::with_capacity(256);
        out.put_bytes(0, HEADER_SIZE);
        Self { out, count: 0, timestamp, mark }
    }

    /// Bytes so far, header included.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes that a record adds to a batch, at most.
    pub fn cost(key: Option<&[u8]>, value: Option<&[u8]>) -> usize {
        key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + 5 * MAX_VARINT
    }

    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let delta = i64::from(self.count);
        let field = |bytes: Option<&[u8]>| bytes.map_or(1, |b| varint_size(b.len() as i64) + b.len());
        let length = 2 + varint_size(delta) + field(key) + field(value) + 1;
        put_varint(&mut self.out, length as i64);
        self.out.put_u8(0);
        put_varint(&mut self.out, 0);
        put_varint(&mut self.out, delta);
        for bytes in [key, value] {
            put_varint(&mut self.out, bytes.map_or(-1, |b| b.len() as i64));
            self.out.put_slice(bytes.unwrap_or_default());
        }
        put_varint(&mut self.out, 0);
        self.count += 1;
    }

    /// The whole batch, at base offset 0 and with no leader epoch, as a producer would send it.
    pub fn finish(mut self) -> BytesMut {
        assert!(self.count > 0, "a batch holds at least one record");
        let mut header = [0_u8; HEADER_SIZE];
        let mut fields = &mut header[..];
        fields.put_i64(0);
        fields.put_i32((self.out.len() - PREFIX_SIZE) as i32);
        fields.put_i32(-1);
        fields.put_i8(2);
        fields.put_u32(0);
        let transactional = if self.mark.transactional { TRANSACTIONAL } else { 0 };
        fields.put_i16(transactional | if self.mark.control { CONTROL } else { 0 });
        fields.put_i32(self.count - 1);
        fields.put_i64(self.timestamp);
        fields.put_i64(self.timestamp);
        fields.put_i64(self.mark.producer_id);
        fields.put_i16(self.mark.producer_epoch);
        fields.put_i32(self.mark.base_sequence);
        fields.put_i32(self.count);
        self.out[..HEADER_SIZE].copy_from_slice(&header);
        batch::seal(&mut self.out);
        self.out
    }
}

/// A batch without records that stands for the offsets `from..until`: readers step over it, as over what compaction has
/// emptied. Stamped and sealed.
pub fn empty_batch(from: i64, until: i64, leader_epoch: i32) -> BytesMut {
    let last_delta = i32::try_from(until - from - 1).expect("a range that a batch can span");
    assert!(last_delta >= 0, "an empty batch stands for one offset at least");
    let mut out = BytesMut::with_capacity(HEADER_SIZE);
    out.put_i64(from);
    out.put_i32((HEADER_SIZE - PREFIX_SIZE) as i32);
    out.put_i32(leader_epoch);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(0);
    out.put_i32(last_delta);
    out.put_i64(batch::NO_TIMESTAMP);
    out.put_i64(batch::NO_TIMESTAMP);
    out.put_i64(batch::NO_PRODUCER_ID);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(0);
    batch::seal(&mut out);
    out
}

/// The longest varint of a length that fits in memory.
const MAX_VARINT: usize = 5;

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn varint_size(value: i64) -> usize {
    (64 - (zigzag(value) | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// One record as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    pub offset: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
}

/// The records of one whole stored batch.
pub fn read_batch(mut batch: Bytes) -> Result<Vec<StoredRecord>, RecordError> {
    let batch = RecordBatch::decode(&mut batch, RecordDecodeLimits::default())?;
    let base_offset = batch.base_offset;
    let records = batch.records.into_iter().map(|record| StoredRecord {
        offset: base_offset.saturating_add(i64::from(record.offset_delta)),
        key: record.key,
        value: record.value,
    });
    Ok(records.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::produced::ProducedBatch;

    #[test]
    fn what_is_built_is_a_sound_batch_and_reads_back() {
        let long = vec![7_u8; 100_000];
        let mut builder = BatchBuilder::new(1234, BatchMark::default());
        let record = |i: usize| (Some(&long[..i * 7]), (!i.is_multiple_of(3)).then_some(&long[..i * 300]));
        let records: Vec<_> = (0..200).map(record).collect();
        let mut bound = HEADER_SIZE;
        for (key, value) in &records {
            builder.push(*key, *value);
            bound += BatchBuilder::cost(*key, *value);
            assert!(builder.len() <= bound);
        }
        let batch = ProducedBatch::parse(builder.finish()).unwrap();
        batch.check(batch.bytes.len()).unwrap();
        let (header, batch) = (batch.header, batch.bytes);
        assert_eq!((header.record_count, header.max_timestamp, header.producer_id), (200, 1234, -1));
        let back = read_batch(batch.freeze()).unwrap();
        for (i, (record, (key, value))) in back.iter().zip(&records).enumerate() {
            assert_eq!(
                (record.offset, record.key.as_deref(), record.value.as_deref()),
                (i as i64, *key, *value)
            );
        }
    }

    #[test]
    fn marks_are_in_the_header() {
        let mark = BatchMark {
            producer_id: 9,
            producer_epoch: 2,
            transactional: true,
            control: true,
            ..BatchMark::default()
        };
        let mut builder = BatchBuilder::new(0, mark);
        builder.push(Some(b"k"), None);
        let header = batch::check_stored(&builder.finish()).unwrap();
        assert!(header.is_transactional() && header.is_control());
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 2, -1));
    }
}
