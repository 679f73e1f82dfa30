//! Records to batches and back.

use std::str::FromStr;

use bytes::Bytes;
use kafka_wire_core::StrBytes;
use kafka_wire_records::{
    Compression, Record, RecordBatch, RecordBatchDecode, RecordDecodeLimits, RecordEncodeLimits, RecordError,
    RecordHeader, TimestampType,
};
use serde::{Deserialize, Serialize};

/// Most bytes that the compressed batches of one answer may expand to.
const MAX_EXPANDED_BYTES: usize = 512 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub const NAMES: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

    fn compression(self) -> Compression {
        match self {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        }
    }
}

impl FromStr for Codec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Codec::None),
            "gzip" => Ok(Codec::Gzip),
            "snappy" => Ok(Codec::Snappy),
            "lz4" => Ok(Codec::Lz4),
            "zstd" => Ok(Codec::Zstd),
            _ => Err(format!("must be one of {}", Codec::NAMES.join(", "))),
        }
    }
}

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedRecord {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
    pub timestamp_ms: i64,
}

/// A record that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
}

#[derive(Clone, Copy, Debug)]
pub struct BatchOptions {
    pub codec: Codec,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

impl Default for BatchOptions {
    fn default() -> Self {
        BatchOptions { codec: Codec::None, producer_id: -1, producer_epoch: -1, base_sequence: -1 }
    }
}

/// One v2 batch of these records, checksum included, offsets from zero.
pub fn encode_batch(records: &[OwnedRecord], options: BatchOptions) -> Result<Bytes, RecordError> {
    let base_timestamp = records.first().map_or(0, |r| r.timestamp_ms);
    let max_timestamp = records.iter().map(|r| r.timestamp_ms).max().unwrap_or(0);
    let encoded = records.iter().enumerate().map(|(i, record)| Record {
        attributes: 0,
        timestamp_delta: record.timestamp_ms.wrapping_sub(base_timestamp),
        offset_delta: i as i32,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| RecordHeader { key: StrBytes::from(key.as_str()), value: value.clone() })
            .collect(),
    });
    let batch = RecordBatch {
        base_offset: 0,
        last_offset_delta: records.len() as i32 - 1,
        partition_leader_epoch: -1,
        compression: options.codec.compression(),
        timestamp_type: TimestampType::CreateTime,
        is_transactional: false,
        is_control: false,
        has_delete_horizon: false,
        base_timestamp,
        max_timestamp,
        producer_id: options.producer_id,
        producer_epoch: options.producer_epoch,
        base_sequence: options.base_sequence,
        records: encoded.collect(),
    };
    batch.encode_to_bytes(RecordEncodeLimits::default())
}

/// The records of a fetched run of batches from `from` on, and the offset to fetch next. Control batches
/// are skipped, and so is an incomplete batch at the end.
pub fn decode_records(mut batches: Bytes, from: i64) -> Result<(Vec<Received>, i64), RecordError> {
    let mut records = Vec::new();
    let mut next = from;
    let mut budget = MAX_EXPANDED_BYTES;
    while !batches.is_empty() {
        let decoded = RecordBatch::decode_next(&mut batches, RecordDecodeLimits::default(), budget)?;
        let RecordBatchDecode::Complete { batch, additional_retained_payload_bytes } = decoded else {
            break;
        };
        budget = budget.saturating_sub(additional_retained_payload_bytes);
        next = next.max(batch.base_offset.saturating_add(i64::from(batch.last_offset_delta) + 1));
        if batch.is_control {
            continue;
        }
        records.extend(received(&batch, from));
    }
    Ok((records, next))
}

fn received(batch: &RecordBatch, from: i64) -> impl Iterator<Item = Received> + '_ {
    let records = batch.records.iter().map(|record| Received {
        offset: batch.base_offset.saturating_add(i64::from(record.offset_delta)),
        timestamp_ms: match batch.timestamp_type {
            TimestampType::CreateTime => batch.base_timestamp.wrapping_add(record.timestamp_delta),
            TimestampType::LogAppendTime => batch.max_timestamp,
        },
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.iter().map(|h| (h.key.to_string(), h.value.clone())).collect(),
    });
    records.filter(move |r| r.offset >= from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &'static str) -> OwnedRecord {
        OwnedRecord { value: Some(Bytes::from(value)), timestamp_ms: 7, ..OwnedRecord::default() }
    }

    #[test]
    fn every_codec_gives_the_records_back() {
        let mut records = vec![record("one"), record("two"), record("three")];
        records[1].key = Some(Bytes::from_static(b"key"));
        records[1].headers = vec![("h".to_owned(), None)];
        records[2].timestamp_ms = 3;
        for name in Codec::NAMES {
            let options = BatchOptions { codec: name.parse().unwrap(), ..BatchOptions::default() };
            let batch = encode_batch(&records, options).unwrap();
            let (got, next) = decode_records(batch, 0).unwrap();
            assert_eq!(next, 3, "{name}");
            for (record, received) in records.iter().zip(&got) {
                assert_eq!((&record.key, &record.value), (&received.key, &received.value), "{name}");
                assert_eq!(record.timestamp_ms, received.timestamp_ms, "{name}");
                assert_eq!(record.headers, received.headers, "{name}");
            }
        }
    }

    #[test]
    fn records_before_the_asked_offset_and_a_cut_batch_are_left_out() {
        let batch = encode_batch(&[record("one"), record("two")], BatchOptions::default()).unwrap();
        let mut run = batch.to_vec();
        run.extend_from_slice(&batch[..20]);
        let (records, next) = decode_records(Bytes::from(run), 1).unwrap();
        assert_eq!((records.len(), records[0].offset, next), (1, 1, 2));
    }

    #[test]
    fn a_corrupt_batch_is_an_error() {
        let batch = encode_batch(&[record("one")], BatchOptions::default()).unwrap();
        let mut bytes = batch.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(decode_records(Bytes::from(bytes), 0).is_err());
    }
}
