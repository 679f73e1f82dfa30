//! Produce requests, parsed so that each partition's records are their own mutable buffer, split off the
//! frame without a copy: the offset is stamped in place, and the same bytes are journaled, cached and
//! fetched.

use bytes::BytesMut;
use kafka_wire_core::StrBytes;

use super::read::{Reader, WireError};
use crate::model::TopicId;

pub const MIN_VERSION: i16 = 3;
pub const MAX_VERSION: i16 = 13;
const FLEXIBLE_FROM: i16 = 9;
const TOPIC_IDS_FROM: i16 = 13;
/// Topics and partitions in one request. An entry in memory is some ten times its least size on the wire.
const MAX_ENTRIES: usize = 100_000;

#[derive(Debug)]
pub struct ProduceFrame {
    pub transactional_id: Option<StrBytes>,
    pub acks: i16,
    pub timeout_ms: i32,
    pub topics: Vec<ProduceTopic>,
}

#[derive(Debug)]
pub struct ProduceTopic {
    /// Empty from version 13 on.
    pub name: StrBytes,
    /// Zero before version 13.
    pub id: TopicId,
    pub partitions: Vec<ProducePartition>,
}

#[derive(Debug)]
pub struct ProducePartition {
    pub index: i32,
    pub records: Option<BytesMut>,
}

impl ProduceFrame {
    /// Parses the body that follows the request header. Bytes after it are ignored, as Kafka does.
    pub fn parse(body: BytesMut, version: i16) -> Result<Self, WireError> {
        if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
            return Err(WireError::Version(version));
        }
        let flexible = version >= FLEXIBLE_FROM;
        let mut parser = Parser { reader: Reader::new(body), version, flexible, entries: 0 };
        let transactional_id = parser.reader.nullable_string(flexible, "the transactional id")?;
        let acks = parser.reader.i16("acks")?;
        let timeout_ms = parser.reader.i32("the timeout")?;
        let count = parser.array("the topics")?;
        let mut topics = Vec::with_capacity(count.min(16));
        for _ in 0..count {
            topics.push(parser.topic()?);
        }
        parser.tags()?;
        Ok(Self { transactional_id, acks, timeout_ms, topics })
    }
}

struct Parser {
    reader: Reader,
    version: i16,
    flexible: bool,
    entries: usize,
}

impl Parser {
    /// An array's length, no more than its bytes could back and than one request may name.
    fn array(&mut self, what: &'static str) -> Result<usize, WireError> {
        let count = self.reader.array_len(self.flexible, what)?;
        if count > self.reader.remaining() {
            return Err(WireError::Truncated(what));
        }
        self.entries = self.entries.saturating_add(count);
        if self.entries > MAX_ENTRIES { Err(WireError::TooMany(MAX_ENTRIES)) } else { Ok(count) }
    }

    fn tags(&mut self) -> Result<(), WireError> {
        if self.flexible { self.reader.skip_tags("tagged fields") } else { Ok(()) }
    }

    fn topic(&mut self) -> Result<ProduceTopic, WireError> {
        let (mut name, mut id) = (StrBytes::default(), TopicId::ZERO);
        if self.version >= TOPIC_IDS_FROM {
            id = TopicId(self.reader.uuid("a topic id")?);
        } else {
            name = self.reader.string(self.flexible, "a topic name")?;
        }
        let count = self.array("the partitions")?;
        let mut partitions = Vec::with_capacity(count.min(16));
        for _ in 0..count {
            let index = self.reader.i32("a partition index")?;
            let records = self.reader.bytes(self.flexible, "the records")?;
            self.tags()?;
            partitions.push(ProducePartition { index, records });
        }
        self.tags()?;
        Ok(ProduceTopic { name, id, partitions })
    }
}

#[cfg(test)]
#[path = "produce_tests.rs"]
mod tests;
