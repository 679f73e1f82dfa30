//! Requests built once, and just enough parsing of their answers.
//!
//! Fixed versions without tagged fields keep both simple and every broker speaks them: Produce 7, Fetch 11.

use bytes::Bytes;
use kafka_wire::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::{FetchRequest, OutboundFrameLimits, ProduceRequest, encode_request};
use kafka_wire_core::{ApiVersion, BytesMut, StrBytes};
use weir::client::{BatchOptions, Codec, OwnedRecord, encode_batch, message};

use crate::Outcome;

const PRODUCE_VERSION: i16 = 7;
const FETCH_VERSION: i16 = 11;
const TIMEOUT_MS: i32 = 30_000;

/// One batch of equal-sized records whose values do not compress.
pub fn batch(records: usize, record_bytes: usize, codec: Codec, seed: u64) -> Outcome<Bytes> {
    let mut noise = Noise(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let records: Vec<OwnedRecord> = (0..records)
        .map(|_| OwnedRecord {
            value: Some(noise.bytes(record_bytes)),
            timestamp_ms: now.as_millis() as i64,
            ..OwnedRecord::default()
        })
        .collect();
    encode_batch(&records, BatchOptions { codec, ..BatchOptions::default() }).map_err(|e| e.to_string())
}

pub fn produce(topic: &str, partition: i32, batch: Bytes, acks: i16) -> Outcome<Bytes> {
    let request = message::<ProduceRequest>(|r| {
        r.acks = acks;
        r.timeout_ms = TIMEOUT_MS;
        r.topic_data = vec![message::<TopicProduceData>(|t| {
            t.name = StrBytes::from(topic);
            t.partition_data = vec![message::<PartitionProduceData>(|p| {
                p.index = partition;
                p.records = Some(batch);
            })];
        })];
    });
    frame(&request, PRODUCE_VERSION)
}

/// The frame of a fetch of one partition, and where its offset is to be patched in.
pub fn fetch(topic: &str, partition: i32, max_bytes: i32) -> Outcome<(Vec<u8>, usize)> {
    let build = |offset: i64| {
        let request = message::<FetchRequest>(|r| {
            r.max_wait_ms = 500;
            r.min_bytes = 1;
            r.max_bytes = max_bytes;
            r.topics = vec![message::<FetchTopic>(|t| {
                t.topic = StrBytes::from(topic);
                t.partitions = vec![message::<FetchPartition>(|p| {
                    p.partition = partition;
                    p.current_leader_epoch = -1;
                    p.fetch_offset = offset;
                    p.partition_max_bytes = max_bytes;
                })];
            })];
        });
        frame(&request, FETCH_VERSION)
    };
    let (zeros, ones) = (build(0)?, build(-1)?);
    let at = zeros.iter().zip(&ones).position(|(a, b)| a != b).ok_or("a fetch without an offset")?;
    Ok((zeros.to_vec(), at))
}

fn frame<R: kafka_wire::KafkaRequest>(request: &R, version: i16) -> Outcome<Bytes> {
    let mut out = BytesMut::new();
    let client = Some(StrBytes::from("weir-perf"));
    let limits = OutboundFrameLimits::new(i32::MAX as usize);
    encode_request(&mut out, 0, client, request, ApiVersion::new(version), limits)
        .map_err(|e| e.to_string())?;
    Ok(out.freeze())
}

/// The error code of a Produce answer for one partition of one topic.
pub fn produce_error(frame: &[u8]) -> Outcome<i16> {
    let mut cursor = Cursor(frame);
    cursor.skip(4)?;
    cursor.one("topics")?;
    cursor.string()?;
    cursor.one("partitions")?;
    cursor.skip(4)?;
    cursor.i16()
}

/// One partition's part of a Fetch answer.
pub struct FetchAnswer<'a> {
    pub error: i16,
    pub log_start_offset: i64,
    pub records: &'a [u8],
}

pub fn fetch_answer(frame: &[u8]) -> Outcome<FetchAnswer<'_>> {
    let mut cursor = Cursor(frame);
    cursor.skip(4 + 4)?;
    let error = cursor.i16()?;
    cursor.skip(4)?;
    if error != 0 {
        return Ok(FetchAnswer { error, log_start_offset: 0, records: &[] });
    }
    cursor.one("topics")?;
    cursor.string()?;
    cursor.one("partitions")?;
    cursor.skip(4)?;
    let error = cursor.i16()?;
    // High watermark and last stable offset.
    cursor.skip(8 + 8)?;
    let log_start_offset = cursor.i64()?;
    let aborted = cursor.i32()?.max(0) as usize;
    cursor.skip(aborted.saturating_mul(16))?;
    cursor.skip(4)?;
    let length = cursor.i32()?.max(0) as usize;
    Ok(FetchAnswer { error, log_start_offset, records: cursor.take(length)? })
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Outcome<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or("an answer is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, n: usize) -> Outcome<()> {
        self.take(n).map(|_| ())
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("took N bytes"))
    }

    fn i16(&mut self) -> Outcome<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Outcome<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Outcome<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn string(&mut self) -> Outcome<()> {
        let length = self.i16()?.max(0) as usize;
        self.skip(length)
    }

    fn one(&mut self, what: &str) -> Outcome<()> {
        match self.i32()? {
            1 => Ok(()),
            n => Err(format!("an answer with {n} {what} where one was asked for")),
        }
    }
}

/// Bytes that do not compress (xorshift).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, length: usize) -> Bytes {
        let mut out = Vec::with_capacity(length + 8);
        while out.len() < length {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            out.extend_from_slice(&self.0.to_le_bytes());
        }
        out.truncate(length);
        Bytes::from(out)
    }
}
