//! Batches and logs for tests.

use bytes::Bytes;
use kafka_wire_records::{Compression, Record, RecordBatch, RecordEncodeLimits, TimestampType};

/// Records with the given timestamps and short values.
pub fn records_at(timestamps: &[i64]) -> Vec<(i64, Vec<u8>)> {
    timestamps.iter().map(|t| (*t, format!("value at {t}").into_bytes())).collect()
}

/// A batch as the partition would append it.
pub fn batch(
    base_offset: i64,
    leader_epoch: i32,
    compression: Compression,
    records: &[(i64, Vec<u8>)],
) -> Bytes {
    let base_timestamp = records[0].0;
    let record = |(i, (timestamp, value)): (usize, &(i64, Vec<u8>))| Record {
        attributes: 0,
        timestamp_delta: timestamp - base_timestamp,
        offset_delta: i as i32,
        key: None,
        value: Some(value.clone().into()),
        headers: Vec::new(),
    };
    let batch = RecordBatch {
        base_offset,
        last_offset_delta: records.len() as i32 - 1,
        partition_leader_epoch: leader_epoch,
        compression,
        timestamp_type: TimestampType::CreateTime,
        is_transactional: false,
        is_control: false,
        has_delete_horizon: false,
        base_timestamp,
        max_timestamp: records.iter().map(|r| r.0).max().unwrap_or(-1),
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        records: records.iter().enumerate().map(record).collect(),
    };
    batch.encode_to_bytes(RecordEncodeLimits::default()).expect("a sound batch")
}
