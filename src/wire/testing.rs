//! Batches for tests, made by the reference encoder.

use bytes::Bytes;
use kafka_wire_records::{Compression, Record, RecordBatch, TimestampType};

/// A record without headers, so long after the batch's first time.
pub(crate) fn record(
    offset_delta: i32,
    timestamp_delta: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
) -> Record {
    Record { attributes: 0, timestamp_delta, offset_delta, key, value, headers: Vec::new() }
}

/// A plain batch as a client sends it, of no producer's.
pub(crate) fn batch_of(base_timestamp: i64, records: Vec<Record>) -> RecordBatch {
    let latest = records.iter().map(|record| record.timestamp_delta).max().unwrap_or(0);
    RecordBatch {
        base_offset: 0,
        last_offset_delta: records.len() as i32 - 1,
        partition_leader_epoch: -1,
        compression: Compression::None,
        timestamp_type: TimestampType::CreateTime,
        is_transactional: false,
        is_control: false,
        has_delete_horizon: false,
        base_timestamp,
        max_timestamp: base_timestamp + latest,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        records,
    }
}
