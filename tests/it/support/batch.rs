//! Record batches for raw tests: built right, and then broken on purpose.

use bytes::Bytes;
use kafka_wire_records::{
    Compression, Record, RecordBatch, RecordDecodeLimits, RecordEncodeLimits, TimestampType,
};

/// Positions in the 61-byte v2 batch header.
pub const AT_LENGTH: usize = 8;
pub const AT_MAGIC: usize = 16;
pub const AT_CRC: usize = 17;
pub const AT_ATTRIBUTES: usize = 21;
pub const AT_LAST_OFFSET_DELTA: usize = 23;
pub const AT_PRODUCER_ID: usize = 43;
pub const AT_PRODUCER_EPOCH: usize = 51;
pub const AT_BASE_SEQUENCE: usize = 53;
pub const AT_COUNT: usize = 57;

const HEADER_BYTES: usize = 61;
/// By number.
const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

pub fn now_ms() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_millis() as i64
}

/// An uncompressed batch of these values, timestamped now, from no particular producer.
pub fn batch<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> RecordBatch {
    let record = |(i, value): (usize, V)| Record {
        attributes: 0,
        timestamp_delta: 0,
        offset_delta: i as i32,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_ref())),
        headers: Vec::new(),
    };
    let records: Vec<Record> = values.into_iter().enumerate().map(record).collect();
    let now = now_ms();
    RecordBatch {
        base_offset: 0,
        last_offset_delta: records.len() as i32 - 1,
        partition_leader_epoch: -1,
        compression: Compression::None,
        timestamp_type: TimestampType::CreateTime,
        is_transactional: false,
        is_control: false,
        has_delete_horizon: false,
        base_timestamp: now,
        max_timestamp: now,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        records,
    }
}

/// The same from an idempotent producer.
pub fn from_producer<V: AsRef<[u8]>>(
    id: i64,
    epoch: i16,
    sequence: i32,
    values: impl IntoIterator<Item = V>,
) -> RecordBatch {
    RecordBatch { producer_id: id, producer_epoch: epoch, base_sequence: sequence, ..batch(values) }
}

/// One record at each of these timestamps.
pub fn at_times(times: &[i64]) -> RecordBatch {
    let mut batch = batch(times.iter().map(|t| format!("t{t}")));
    batch.base_timestamp = times[0];
    batch.max_timestamp = *times.iter().max().expect("a time");
    for (record, time) in batch.records.iter_mut().zip(times) {
        record.timestamp_delta = time - times[0];
    }
    batch
}

pub fn bytes_of(batch: &RecordBatch) -> Bytes {
    batch.encode_to_bytes(RecordEncodeLimits::default()).expect("an encodable batch")
}

pub fn encoded<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Bytes {
    bytes_of(&batch(values))
}

/// The batch with `patch` written at `at` and a checksum that agrees.
pub fn patched(batch: &Bytes, at: usize, patch: &[u8]) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[at..at + patch.len()].copy_from_slice(patch);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[AT_ATTRIBUTES..]) as u32;
    bytes[AT_CRC..AT_CRC + 4].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

/// The batch's header over other records, which this codec is said to have compressed.
pub fn with_records(batch: &Bytes, codec: Compression, records: &[u8]) -> Bytes {
    let codec = CODECS.iter().position(|known| *known == codec).expect("a known codec") as i16;
    let mut bytes = batch[..HEADER_BYTES].to_vec();
    bytes.extend_from_slice(records);
    let length = bytes.len() as i32 - 12;
    bytes[AT_LENGTH..AT_LENGTH + 4].copy_from_slice(&length.to_be_bytes());
    patched(&Bytes::from(bytes), AT_ATTRIBUTES, &codec.to_be_bytes())
}

/// Compressed as a producer does.
pub fn packed(codec: Compression, plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    match codec {
        Compression::None => plain.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain).expect("memory");
            encoder.finish().expect("memory")
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(plain).expect("memory"),
        Compression::Lz4 => {
            let block = lz4::block::compress(plain, None, false).expect("memory");
            let size = (block.len() as u32).to_le_bytes();
            // Magic, independent blocks of up to 64 KiB, the header's checksum; an end mark.
            [&[4, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82], &size[..], &block, &[0; 4]].concat()
        }
        Compression::Zstd => zstd::encode_all(plain, 3).expect("memory"),
    }
}

/// Every whole batch of a fetched record set; a cut-off last batch is left out, as clients do.
pub fn decode_all(mut records: Bytes) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    while records.len() >= 12 {
        let length = u32::from_be_bytes(records[AT_LENGTH..AT_LENGTH + 4].try_into().expect("4 bytes"));
        if records.len() < 12 + length as usize {
            break;
        }
        let decoded = RecordBatch::decode(&mut records, RecordDecodeLimits::default());
        batches.push(decoded.expect("a batch that decodes and whose checksum holds"));
    }
    batches
}

/// (offset, value) of every record.
pub fn rows(records: Bytes) -> Vec<(i64, Bytes)> {
    let row = |base: i64, r: Record| (base + i64::from(r.offset_delta), r.value.unwrap_or_default());
    let batches = decode_all(records);
    batches.into_iter().flat_map(|b| b.records.into_iter().map(move |r| row(b.base_offset, r))).collect()
}
