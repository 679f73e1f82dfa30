//! What is made sure of before a produced batch is acknowledged: that every consumer can read every record of it, and
//! that the topic takes them. As Kafka's `LogValidator` does it, with one more: a compressed record's length counts too.
//!
//! ```text
//! ProducedBatch ─▶ size, checksum, header ─▶ each record: structure, offset, key, time ─▶ [compressed anew] ─▶ Sound
//! ```
//! A batch is refused as a whole. Where records can be read but are not taken, each of those is named (KIP-467); what
//! cannot be read ends the reading. Records are compressed anew where the topic wants another codec than theirs, and
//! where offset deltas are not 0, 1, 2, …: readers trust them, so they are written as they should be.

mod rewrite;
mod survey;

use super::batch::{BatchError, BatchHeader, Compression, NO_TIMESTAMP};
use super::codec::{self, CodecError, Encoding};
use super::produced::ProducedBatch;
use super::scan::{self, Fault};
use crate::model::topic_config::{CompressionType, RecordValidation, TimestampType, TopicConfig};

/// The most that a batch's records may come to when decompressed.
pub const MAX_DECODED: usize = 512 << 20;
/// Records of one batch that are named as not taken.
const MAX_NAMED: usize = 10_000;
/// What is checked in passing, on a shard: batches of up to this size, as they came and decompressed.
const LIGHT_PLAIN: usize = 1 << 20;
const LIGHT_PACKED: usize = 16 << 10;
const LIGHT_DECODED: usize = 128 << 10;

/// What a topic asks of batches.
#[derive(Clone, Debug)]
pub struct Rules {
    max_bytes: usize,
    validation: RecordValidation,
    keys: bool,
    /// The broker's clock is every record's time.
    broker_time: bool,
    earliest: i64,
    latest: i64,
    /// None: as the producer chose.
    encoding: Option<Encoding>,
}

impl Rules {
    pub fn new(config: &TopicConfig, now_ms: i64) -> Self {
        let encoding = match config.compression_type {
            CompressionType::Producer => None,
            CompressionType::Uncompressed => Some(Encoding::None),
            CompressionType::Gzip => Some(Encoding::Gzip(config.compression_gzip_level)),
            CompressionType::Snappy => Some(Encoding::Snappy),
            CompressionType::Lz4 => Some(Encoding::Lz4(config.compression_lz4_level)),
            CompressionType::Zstd => Some(Encoding::Zstd(config.compression_zstd_level)),
        };
        Self {
            max_bytes: config.max_message_bytes,
            validation: config.record_validation,
            keys: config.cleanup_policy.compact,
            broker_time: config.message_timestamp_type == TimestampType::LogAppendTime,
            earliest: now_ms.saturating_sub(config.message_timestamp_before_max_ms),
            latest: now_ms.saturating_add(config.message_timestamp_after_max_ms),
            encoding,
        }
    }

    fn recompresses(&self, header: &BatchHeader) -> bool {
        self.encoding.is_some_and(|encoding| encoding.codec() != header.compression())
    }

    /// Whether the records are read.
    fn reads(&self, header: &BatchHeader) -> bool {
        self.validation == RecordValidation::Full
            || self.recompresses(header)
            || self.keys && header.compression() == Compression::None
    }
}

/// How much may be done here.
#[derive(Clone, Copy, Debug)]
pub enum Effort {
    /// What takes a fraction of a millisecond.
    Light,
    /// All, with so many bytes of memory for what a codec must look back on.
    Full { memory: usize },
}

/// A record that the topic does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// From 0, in its batch.
    pub index: i32,
    pub why: NotTaken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    #[error("a compacted topic takes no record without a key")]
    NoKey,
    #[error("the timestamp {timestamp} is not within {earliest} and {latest}")]
    Timestamp { timestamp: i64, earliest: i64, latest: i64 },
    #[error("a producer cannot say that its timestamps are the broker's")]
    BrokerTime,
}

/// Why a batch is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("record {index} cannot be read: {why}")]
    Unreadable { index: i32, why: Fault },
    #[error("more follows the {0} records that the batch counts")]
    Rest(i32),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("a timestamp of {0} is out of the topic's bounds")]
    Timestamp(i64),
    #[error("the offsets of {0} bytes of records are not consecutive")]
    Offsets(usize),
    #[error(transparent)]
    Records(Box<RecordErrors>),
}

/// The records that are not taken: the first of them, and how many there are.
#[derive(Debug, Default, thiserror::Error)]
#[error("records that the topic does not take: {total}, the first of them {}", self.first())]
pub struct RecordErrors {
    pub named: Vec<RecordError>,
    pub total: usize,
    /// Whether any is for its timestamp: that is then what the batch is refused for.
    pub untimely: bool,
}

impl RecordErrors {
    fn first(&self) -> String {
        self.named.first().map_or_else(String::new, |e| format!("record {}: {}", e.index, e.why))
    }

    #[cold]
    fn add(&mut self, index: i32, why: NotTaken) {
        self.total += 1;
        self.untimely |= why != NotTaken::NoKey;
        if self.named.len() < MAX_NAMED {
            self.named.push(RecordError { index, why });
        }
    }
}

/// Why a batch is not [`Sound`], or not yet known to be.
#[derive(Debug)]
pub enum Unsound {
    Refused(Refusal),
    /// It takes more than [`Effort::Light`].
    Heavy(ProducedBatch),
}

impl<E: Into<Refusal>> From<E> for Unsound {
    fn from(why: E) -> Self {
        Self::Refused(why.into())
    }
}

/// A batch that may be appended. Its header is that of its bytes.
#[derive(Debug)]
pub struct Sound(ProducedBatch);

impl Sound {
    pub fn header(&self) -> &BatchHeader {
        &self.0.header
    }

    pub fn into_inner(self) -> ProducedBatch {
        self.0
    }

    /// `scratch` is memory that is used again.
    pub fn check(
        mut batch: ProducedBatch,
        rules: &Rules,
        effort: Effort,
        scratch: &mut Vec<u8>,
    ) -> Result<Self, Unsound> {
        let light = matches!(effort, Effort::Light);
        if light && is_heavy(&batch, rules) {
            return Err(Unsound::Heavy(batch));
        }
        batch.check(rules.max_bytes)?;
        if !rules.reads(&batch.header) {
            check_bounds(&batch.header, rules)?;
            return Ok(Self(batch));
        }
        let survey = match survey::survey(&batch, rules, effort, scratch) {
            Err(Refusal::Codec(CodecError::TooLarge(_))) if light => return Err(Unsound::Heavy(batch)),
            surveyed => surveyed?,
        };
        if survey.renumber || rules.recompresses(&batch.header) {
            if light {
                return Err(Unsound::Heavy(batch));
            }
            return Ok(Self(rewrite::rewrite(&batch, rules, &survey, scratch)?));
        }
        let header = &batch.header;
        let timely = header.max_timestamp == survey.max_timestamp && !header.is_log_append_time();
        if !rules.broker_time && !timely {
            batch.set_create_time(survey.max_timestamp);
        }
        Ok(Self(batch))
    }

    /// Bytes of memory that [`Self::check`] may take with full effort and so much for a codec, beside the batch.
    pub fn memory(batch: &ProducedBatch, rules: &Rules, most: usize) -> usize {
        let window = codec::window(batch.header.compression(), batch.records()).min(most);
        let rewrites = rules.recompresses(&batch.header);
        let encoder = rules.encoding.filter(|_| rewrites).map_or(0, Encoding::memory);
        let output = if rewrites { rules.max_bytes.min(2 * batch.bytes.len()) } else { 0 };
        scan::WINDOW + window + encoder + output
    }
}

/// What is certain to be more than [`Effort::Light`].
fn is_heavy(batch: &ProducedBatch, rules: &Rules) -> bool {
    let most = match batch.header.compression() {
        Compression::None => LIGHT_PLAIN,
        _ if !rules.reads(&batch.header) => LIGHT_PLAIN,
        _ => LIGHT_PACKED,
    };
    batch.bytes.len() > most || rules.recompresses(&batch.header)
}

/// Kafka's `message.timestamp.before.max.ms` and `after.max.ms` on a batch's own bounds, where its records are not read.
fn check_bounds(header: &BatchHeader, rules: &Rules) -> Result<(), Refusal> {
    let within = |t: i64| t == NO_TIMESTAMP || (rules.earliest..=rules.latest).contains(&t);
    let out = [header.base_timestamp, header.max_timestamp].into_iter().find(|t| !within(*t));
    match out {
        Some(timestamp) if !rules.broker_time => Err(Refusal::Timestamp(timestamp)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
