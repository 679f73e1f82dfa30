//! The records of `__consumer_offsets`, in Kafka's own key and value schemas.
//!
//! ```text
//! key   i16 0|1: group, topic, partition           an offset        value i16 0..4: offset, epoch, metadata, times, topic id
//!       i16 2:   group                             a group          value i16 0..4: protocol, generation, leader, members
//! ```
//! Written are offsets at version 4 (1 where the client set a retention) and groups at version 3, as Kafka 4.3 writes
//! them; read are all. Keys of other versions belong to the newer group protocols and are left alone.

use bytes::{BufMut, Bytes};

use super::types::Name;
use crate::coordinator::{Ms, Record};
use crate::model::TopicId;

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 4;
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE: i16 = 3;
const FLEXIBLE_FROM: i16 = 4;
const TOPIC_ID_TAG: u64 = 0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Offset { group: Name, topic: Name, partition: i32 },
    Group(Name),
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOffset {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Box<str>,
    pub committed_at: Ms,
    /// When it may go, where the client said so.
    pub expires_at: Option<Ms>,
    pub topic_id: TopicId,
    /// Where the record lies: of two commits, the later one counts.
    pub record_offset: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredGroup {
    pub protocol_type: Option<Name>,
    pub generation: i32,
    pub protocol: Option<Name>,
    pub leader: Option<Name>,
    pub since: Option<Ms>,
    pub members: Vec<StoredMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMember {
    pub id: Name,
    pub instance: Option<Name>,
    pub client_id: Name,
    pub client_host: Name,
    pub rebalance_timeout: i32,
    pub session_timeout: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

pub fn offset_record(group: &str, topic: &str, partition: i32, offset: &StoredOffset) -> Record {
    let mut out = Vec::with_capacity(64 + offset.metadata.len());
    match offset.expires_at {
        Some(expires_at) => {
            out.put_i16(OFFSET_VALUE_WITH_EXPIRY);
            out.put_i64(offset.offset);
            put_string(&mut out, &offset.metadata);
            out.put_i64(offset.committed_at);
            out.put_i64(expires_at);
        }
        None => {
            out.put_i16(OFFSET_VALUE);
            out.put_i64(offset.offset);
            out.put_i32(offset.leader_epoch);
            put_varint(&mut out, offset.metadata.len() as u64 + 1);
            out.put_slice(offset.metadata.as_bytes());
            out.put_i64(offset.committed_at);
            if offset.topic_id.is_zero() {
                put_varint(&mut out, 0);
            } else {
                put_varint(&mut out, 1);
                put_varint(&mut out, TOPIC_ID_TAG);
                put_varint(&mut out, 16);
                out.put_slice(&offset.topic_id.0);
            }
        }
    }
    Record { key: offset_key(group, topic, partition), value: Some(out.into()) }
}

pub fn offset_tombstone(group: &str, topic: &str, partition: i32) -> Record {
    Record { key: offset_key(group, topic, partition), value: None }
}

pub fn group_tombstone(group: &str) -> Record {
    Record { key: group_key(group), value: None }
}

pub fn group_record(group: &str, stored: &StoredGroup) -> Record {
    let mut out = Vec::with_capacity(64);
    out.put_i16(GROUP_VALUE);
    put_string(&mut out, stored.protocol_type.as_deref().unwrap_or_default());
    out.put_i32(stored.generation);
    put_nullable(&mut out, stored.protocol.as_deref());
    put_nullable(&mut out, stored.leader.as_deref());
    out.put_i64(stored.since.unwrap_or(-1));
    out.put_i32(stored.members.len() as i32);
    for member in &stored.members {
        put_string(&mut out, &member.id);
        put_nullable(&mut out, member.instance.as_deref());
        put_string(&mut out, &member.client_id);
        put_string(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout);
        out.put_i32(member.session_timeout);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    Record { key: group_key(group), value: Some(out.into()) }
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut out = Vec::with_capacity(10 + group.len() + topic.len());
    out.put_i16(OFFSET_KEY);
    put_string(&mut out, group);
    put_string(&mut out, topic);
    out.put_i32(partition);
    out.into()
}

fn group_key(group: &str) -> Bytes {
    let mut out = Vec::with_capacity(4 + group.len());
    out.put_i16(GROUP_KEY);
    put_string(&mut out, group);
    out.into()
}

/// Names come from requests, whose own lengths were 16 bits; a longer one cannot be.
fn put_string(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= i16::MAX as usize);
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn put_nullable(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// What a record is about; `None` if it is not about classic groups or cannot be read.
pub fn read_key(key: &[u8]) -> Option<Key> {
    let mut input = Input { rest: key, flexible: false };
    match input.i16()? {
        0 | OFFSET_KEY => {
            let (group, topic) = (input.string()?, input.string()?);
            Some(Key::Offset { group, topic, partition: input.i32()? })
        }
        GROUP_KEY => Some(Key::Group(input.string()?)),
        _ => None,
    }
}

pub fn read_offset(value: &[u8], record_offset: i64) -> Option<StoredOffset> {
    let mut input = Input { rest: value, flexible: false };
    let version = input.i16().filter(|version| (0..=OFFSET_VALUE).contains(version))?;
    input.flexible = version >= FLEXIBLE_FROM;
    let offset = input.i64()?;
    let leader_epoch = if version >= 3 { input.i32()? } else { -1 };
    let metadata = input.string()?;
    let committed_at = input.i64()?;
    let expires_at = if version == 1 { Some(input.i64()?).filter(|at| *at >= 0) } else { None };
    let mut topic_id = TopicId::ZERO;
    if input.flexible {
        for _ in 0..input.varint()? {
            let (tag, size) = (input.varint()?, usize::try_from(input.varint()?).ok()?);
            let field = input.take(size)?;
            if tag == TOPIC_ID_TAG {
                topic_id = TopicId(field.try_into().ok()?);
            }
        }
    }
    let metadata = Box::from(&*metadata);
    Some(StoredOffset { offset, leader_epoch, metadata, committed_at, expires_at, topic_id, record_offset })
}

pub fn read_group(value: &[u8]) -> Option<StoredGroup> {
    let mut input = Input { rest: value, flexible: false };
    let version = input.i16().filter(|version| (0..=4).contains(version))?;
    input.flexible = version >= FLEXIBLE_FROM;
    let mut stored = StoredGroup {
        protocol_type: Some(input.string()?).filter(|name| !name.is_empty()),
        generation: input.i32()?,
        protocol: input.nullable()?,
        leader: input.nullable()?,
        ..StoredGroup::default()
    };
    if version >= 2 {
        stored.since = Some(input.i64()?).filter(|at| *at >= 0);
    }
    for _ in 0..input.count()? {
        let id = input.string()?;
        let instance = if version >= 3 { input.nullable()? } else { None };
        let (client_id, client_host) = (input.string()?, input.string()?);
        let rebalance_timeout = if version >= 1 { input.i32()? } else { -1 };
        let session_timeout = input.i32()?;
        let (subscription, assignment) = (input.bytes()?, input.bytes()?);
        input.skip_tags()?;
        stored.members.push(StoredMember {
            id,
            instance,
            client_id,
            client_host,
            rebalance_timeout: if rebalance_timeout < 0 { session_timeout } else { rebalance_timeout },
            session_timeout,
            subscription,
            assignment,
        });
    }
    Some(stored)
}

/// The topics of a consumer's subscription, of which every version begins like version 0.
pub fn subscribed_topics(subscription: &[u8]) -> Option<Vec<String>> {
    let mut input = Input { rest: subscription, flexible: false };
    if input.i16()? < 0 {
        return None;
    }
    let count = input.count()?;
    (0..count).map(|_| Some(input.string()?.to_string())).collect()
}

struct Input<'a> {
    rest: &'a [u8],
    /// Lengths are varints, one more than they mean.
    flexible: bool,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A length; `None` inside for null.
    fn length(&mut self, wide: bool) -> Option<Option<usize>> {
        let length = match (self.flexible, wide) {
            (true, _) => i64::try_from(self.varint()?).ok()? - 1,
            (false, true) => i64::from(self.i32()?),
            (false, false) => i64::from(self.i16()?),
        };
        Some(usize::try_from(length).ok())
    }

    fn nullable(&mut self) -> Option<Option<Name>> {
        match self.length(false)? {
            None => Some(None),
            Some(length) => Some(Some(std::str::from_utf8(self.take(length)?).ok()?.into())),
        }
    }

    fn string(&mut self) -> Option<Name> {
        self.nullable()?
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = self.length(true)?.unwrap_or(0);
        self.take(length).map(Bytes::copy_from_slice)
    }

    /// Elements of an array; each takes a byte at least.
    fn count(&mut self) -> Option<usize> {
        let count = self.length(true)?.unwrap_or(0);
        (count <= self.rest.len()).then_some(count)
    }

    fn skip_tags(&mut self) -> Option<()> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let size = usize::try_from(self.varint()?).ok()?;
                self.take(size)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
