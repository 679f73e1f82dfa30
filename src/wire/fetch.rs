//! Fetch responses as a list of buffers: one header buffer cut where records belong, and the records'
//! own buffers between the pieces, untouched.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_core::StrBytes;

use crate::model::{BrokerId, LeaderEpoch, Offset, ProducerId, TopicId};

pub const MIN_VERSION: i16 = 4;
pub const MAX_VERSION: i16 = 18;
const SESSIONS_FROM: i16 = 7;
const LOG_START_FROM: i16 = 5;
const PREFERRED_REPLICA_FROM: i16 = 11;
const FLEXIBLE_FROM: i16 = 12;
const TOPIC_IDS_FROM: i16 = 13;
/// From here on a client that asked the wrong broker is told the leader's address (KIP-951).
pub const LEADERS_FROM: i16 = 16;

#[derive(Clone, Debug, Default)]
pub struct FetchReply {
    pub throttle_ms: i32,
    pub error_code: i16,
    pub session_id: i32,
    pub topics: Vec<FetchTopicReply>,
    /// The leaders that partitions name.
    pub brokers: Vec<FetchBroker>,
}

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchBroker {
    pub id: i32,
    pub host: StrBytes,
    pub port: i32,
    pub rack: Option<StrBytes>,
}

#[derive(Clone, Debug, Default)]
pub struct FetchTopicReply {
    /// Sent before version 13.
    pub name: StrBytes,
    /// Sent from version 13 on.
    pub id: TopicId,
    pub partitions: Vec<FetchPartitionReply>,
}

#[derive(Clone, Debug)]
pub struct FetchPartitionReply {
    pub index: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// The largest epoch, and its end, at which the fetcher's log parts from the leader's.
    pub diverging_epoch: Option<(LeaderEpoch, Offset)>,
    /// The leader and its epoch, for a client that took another broker for it.
    pub current_leader: Option<(BrokerId, LeaderEpoch)>,
    /// Producers and the first offsets of their transactions, sorted; `None` unless the reader asked for committed data only.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
    pub preferred_read_replica: i32,
    /// Whole batches, back to back.
    pub records: Vec<Bytes>,
    /// Fields of our own, for another broker: by rising tags, all above Kafka's.
    pub own: Box<[(u32, Bytes)]>,
}

impl Default for FetchPartitionReply {
    fn default() -> Self {
        Self {
            index: 0,
            error_code: 0,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted: None,
            preferred_read_replica: -1,
            records: Vec::new(),
            own: Box::default(),
        }
    }
}

/// Encodes the whole response, frame length and header included, ready for one vectored send.
///
/// Panics where the version is not served or the frame would not fit its length: both are the caller's
/// to rule out before it reads records.
pub fn encode(reply: FetchReply, version: i16, correlation_id: i32) -> Vec<Bytes> {
    assert!((MIN_VERSION..=MAX_VERSION).contains(&version), "Fetch version {version}");
    let partitions: usize = reply.topics.iter().map(|t| t.partitions.len()).sum();
    let names: usize = reply.topics.iter().map(|t| t.name.len() + 32).sum();
    let mut out = Writer {
        head: BytesMut::with_capacity(64 + names + partitions * 64),
        flexible: version >= FLEXIBLE_FROM,
        version,
        cuts: Vec::with_capacity(partitions),
        spliced: 0,
    };
    out.head.put_i32(0);
    out.head.put_i32(correlation_id);
    out.tags();
    out.head.put_i32(reply.throttle_ms);
    if version >= SESSIONS_FROM {
        out.head.put_i16(reply.error_code);
        out.head.put_i32(reply.session_id);
    }
    out.array_len(reply.topics.len());
    for topic in reply.topics {
        out.topic(topic);
    }
    out.brokers(&reply.brokers);
    out.finish()
}

struct Writer {
    head: BytesMut,
    flexible: bool,
    version: i16,
    /// Where in `head` each partition's records go.
    cuts: Vec<(usize, Vec<Bytes>)>,
    spliced: usize,
}

impl Writer {
    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.head.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.head.put_u8(value as u8);
    }

    fn array_len(&mut self, len: usize) {
        let len = u32::try_from(len).expect("array length");
        if self.flexible { self.uvarint(len + 1) } else { self.head.put_u32(len) }
    }

    fn tags(&mut self) {
        if self.flexible {
            self.head.put_u8(0);
        }
    }

    fn topic(&mut self, topic: FetchTopicReply) {
        if self.version >= TOPIC_IDS_FROM {
            self.head.put_slice(&topic.id.0);
        } else {
            let len = u16::try_from(topic.name.len()).expect("topic name length");
            if self.flexible {
                self.uvarint(u32::from(len) + 1)
            } else {
                self.head.put_u16(len)
            }
            self.head.put_slice(topic.name.as_bytes());
        }
        self.array_len(topic.partitions.len());
        for partition in topic.partitions {
            self.partition(partition);
        }
        self.tags();
    }

    fn partition(&mut self, partition: FetchPartitionReply) {
        self.head.put_i32(partition.index);
        self.head.put_i16(partition.error_code);
        self.head.put_i64(partition.high_watermark);
        self.head.put_i64(partition.last_stable_offset);
        if self.version >= LOG_START_FROM {
            self.head.put_i64(partition.log_start_offset);
        }
        self.aborted(partition.aborted.as_deref());
        if self.version >= PREFERRED_REPLICA_FROM {
            self.head.put_i32(partition.preferred_read_replica);
        }
        let len: usize = partition.records.iter().map(Bytes::len).sum();
        self.array_len(len);
        if len > 0 {
            self.spliced += len;
            self.cuts.push((self.head.len(), partition.records));
        }
        self.tagged(partition.diverging_epoch, partition.current_leader, &partition.own);
    }

    /// Each tagged field is its number, its size, and a structure with an empty tag section of its own.
    fn tagged(
        &mut self,
        diverging_epoch: Option<(LeaderEpoch, Offset)>,
        current_leader: Option<(BrokerId, LeaderEpoch)>,
        own: &[(u32, Bytes)],
    ) {
        if !self.flexible {
            return;
        }
        let kafkas = u32::from(diverging_epoch.is_some()) + u32::from(current_leader.is_some());
        self.uvarint(kafkas + own.len() as u32);
        if let Some((epoch, end_offset)) = diverging_epoch {
            self.head.put_slice(&[0, 13]);
            self.head.put_i32(epoch.0);
            self.head.put_i64(end_offset.0);
            self.head.put_u8(0);
        }
        if let Some((leader, epoch)) = current_leader {
            self.head.put_slice(&[1, 9]);
            self.head.put_i32(leader);
            self.head.put_i32(epoch.0);
            self.head.put_u8(0);
        }
        for (tag, bytes) in own {
            self.uvarint(*tag);
            self.uvarint(u32::try_from(bytes.len()).expect("a field's length"));
            self.head.put_slice(bytes);
        }
    }

    /// The response's own tags: the brokers, if any.
    fn brokers(&mut self, brokers: &[FetchBroker]) {
        if brokers.is_empty() || self.version < LEADERS_FROM {
            return self.tags();
        }
        let begin = self.head.len();
        self.array_len(brokers.len());
        for broker in brokers {
            self.head.put_i32(broker.id);
            self.compact(&broker.host);
            self.head.put_i32(broker.port);
            match &broker.rack {
                Some(rack) => self.compact(rack),
                None => self.head.put_u8(0),
            }
            self.tags();
        }
        let field = self.head.split_off(begin);
        self.head.put_slice(&[1, 0]);
        self.uvarint(u32::try_from(field.len()).expect("a field's length"));
        self.head.put_slice(&field);
    }

    fn compact(&mut self, text: &str) {
        self.uvarint(u32::try_from(text.len()).expect("a string's length") + 1);
        self.head.put_slice(text.as_bytes());
    }

    fn aborted(&mut self, aborted: Option<&[(ProducerId, Offset)]>) {
        match aborted {
            None if self.flexible => self.head.put_u8(0),
            None => self.head.put_i32(-1),
            Some(list) => {
                self.array_len(list.len());
                for (producer_id, first_offset) in list {
                    self.head.put_i64(producer_id.0);
                    self.head.put_i64(first_offset.0);
                    self.tags();
                }
            }
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        let length = i32::try_from(self.head.len() - 4 + self.spliced).expect("frame length");
        self.head[..4].copy_from_slice(&length.to_be_bytes());
        let head = self.head.freeze();
        let mut segments = Vec::with_capacity(1 + self.cuts.iter().map(|(_, r)| r.len() + 1).sum::<usize>());
        let mut from = 0;
        for (at, records) in self.cuts {
            segments.push(head.slice(from..at));
            segments.extend(records.into_iter().filter(|batch| !batch.is_empty()));
            from = at;
        }
        if from < head.len() {
            segments.push(head.slice(from..));
        }
        segments
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
