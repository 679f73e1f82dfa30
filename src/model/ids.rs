//! Identities. A partition is named by its topic's id, never by the topic's name: a topic that is
//! deleted and created again is another topic (KIP-516).

use std::fmt;

use serde::{Deserialize, Serialize};

pub type BrokerId = i32;

/// A topic's stable id: sixteen bytes, never all zero. Printed as Kafka prints it, in URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    pub const ZERO: Self = Self([0; 16]);

    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(self.0);
        // 128 bits are 21 digits of six bits and one of two, left-aligned.
        for i in 0..21 {
            let digit = (bits >> (122 - 6 * i)) & 63;
            write!(f, "{}", ALPHABET[digit as usize] as char)?;
        }
        write!(f, "{}", ALPHABET[((bits & 3) << 4) as usize] as char)
    }
}

/// Not an id as [`TopicId`] prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadId;

impl std::str::FromStr for TopicId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let mut bits = 0u128;
        for (i, byte) in text.bytes().enumerate() {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return Err(BadId),
            };
            // The last digit holds two bits.
            bits = match i {
                0..=20 => bits << 6 | u128::from(digit),
                21 if digit & 15 == 0 => bits << 2 | u128::from(digit >> 4),
                _ => return Err(BadId),
            };
        }
        if text.len() == 22 { Ok(Self(bits.to_be_bytes())) } else { Err(BadId) }
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Debug)]
pub struct PartitionId {
    pub topic: TopicId,
    pub index: i32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// The shard that owns a partition: a topic's partitions go round the shards, starting where its id says.
pub fn shard_of(partition: PartitionId, shards: usize) -> usize {
    let id = u128::from_be_bytes(partition.topic.0);
    let start = (id ^ (id >> 64)) as u64;
    (start.wrapping_add(partition.index as u64) % shards as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_id_prints_as_kafka_does() {
        assert_eq!(TopicId([0; 16]).to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(TopicId([0xff; 16]).to_string(), "_____________________w");
        for id in [[0; 16], [0xff; 16], *b"0123456789abcdef"].map(TopicId) {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in [
            "",
            "AAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAB",
            "+AAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(bad.parse::<TopicId>(), Err(BadId), "{bad}");
        }
    }

    #[test]
    fn a_topics_partitions_spread_evenly() {
        let topic = TopicId([7; 16]);
        for shards in 1..9 {
            let mut owned = vec![0; shards];
            for index in 0..(shards as i32 * 10) {
                owned[shard_of(PartitionId { topic, index }, shards)] += 1;
            }
            assert!(owned.iter().all(|n| *n == 10), "{owned:?}");
        }
    }
}
