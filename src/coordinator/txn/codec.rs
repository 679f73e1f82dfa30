//! The records of `__transaction_state`, as Kafka lays them out (TransactionLogKey, TransactionLogValue). What was
//! written by other versions is read; what cannot be read is left alone.
//!
//! ```text
//! key   version i16 = 0 │ transactional id string
//! value version i16 = 1 │ producer id i64 │ epoch i16 │ timeout i32 │ state i8 │ partitions │ updated i64 │ started i64 │ tags
//! ```
//! Version 0 of the value has plain arrays and strings and no tags.

use bytes::Bytes;

use super::state::{State, Transaction};
use super::types::{Name, Version};
use crate::model::{Producer, ProducerId};

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 1;
const PREVIOUS_ID: u32 = 0;
const NEXT_ID: u32 = 1;
const CLIENT_VERSION: u32 = 2;
/// No transaction has more: a sound value is smaller than a batch.
const MOST_PARTITIONS: usize = 1 << 20;

pub fn encode_key(id: &str) -> Bytes {
    let mut out = Vec::with_capacity(4 + id.len());
    out.extend(KEY_VERSION.to_be_bytes());
    out.extend((id.len() as u16).to_be_bytes());
    out.extend(id.as_bytes());
    out.into()
}

/// `None` for keys of other versions.
pub fn decode_key(mut key: &[u8]) -> Option<Name> {
    let input = &mut key;
    if i16::from_be_bytes(take(input)?) != KEY_VERSION {
        return None;
    }
    let length = usize::from(u16::from_be_bytes(take(input)?));
    let text = std::str::from_utf8(input.get(..length)?).ok()?;
    Some(text.into())
}

pub fn encode_value(txn: &Transaction) -> Bytes {
    let mut out = Vec::with_capacity(64 + txn.partitions.len() * 16);
    out.extend(VALUE_VERSION.to_be_bytes());
    out.extend(txn.producer.id.0.to_be_bytes());
    out.extend(txn.producer.epoch.0.to_be_bytes());
    out.extend(txn.timeout_ms.to_be_bytes());
    out.push(txn.state as u8);
    if txn.state == State::Empty {
        out.push(0);
    } else {
        put_partitions(&mut out, txn);
    }
    out.extend(txn.updated_ms.to_be_bytes());
    out.extend(txn.started_ms.to_be_bytes());
    let previous = txn.previous_id.map(|id| (PREVIOUS_ID, id.0.to_be_bytes().to_vec()));
    let next = txn.next_id.map(|id| (NEXT_ID, id.0.to_be_bytes().to_vec()));
    let level = i16::from(txn.version.level());
    let version = Some((CLIENT_VERSION, level.to_be_bytes().to_vec())).filter(|_| level != 0);
    let tags: Vec<_> = [previous, next, version].into_iter().flatten().collect();
    put_uvarint(&mut out, tags.len() as u32);
    for (tag, bytes) in tags {
        put_uvarint(&mut out, tag);
        put_uvarint(&mut out, bytes.len() as u32);
        out.extend(bytes);
    }
    out.into()
}

/// The partitions by topic, as they are sorted.
fn put_partitions(out: &mut Vec<u8>, txn: &Transaction) {
    let mut topics: Vec<(&Name, Vec<i32>)> = Vec::new();
    for (topic, index) in &txn.partitions {
        match topics.last_mut() {
            Some((last, indexes)) if *last == topic => indexes.push(*index),
            _ => topics.push((topic, vec![*index])),
        }
    }
    put_uvarint(out, topics.len() as u32 + 1);
    for (topic, indexes) in topics {
        put_uvarint(out, topic.len() as u32 + 1);
        out.extend(topic.as_bytes());
        put_uvarint(out, indexes.len() as u32 + 1);
        indexes.iter().for_each(|index| out.extend(index.to_be_bytes()));
        out.push(0);
    }
}

/// `None` if it is not a value that this build reads.
pub fn decode_value(mut value: &[u8]) -> Option<Transaction> {
    let input = &mut value;
    let version = i16::from_be_bytes(take(input)?);
    if !(0..=VALUE_VERSION).contains(&version) {
        return None;
    }
    let flexible = version >= 1;
    let id = i64::from_be_bytes(take(input)?);
    let epoch = i16::from_be_bytes(take(input)?);
    let timeout_ms = i32::from_be_bytes(take(input)?);
    let [state] = take(input)?;
    let mut txn = Transaction::new(ProducerId(id), timeout_ms);
    txn.producer = Producer::new(id, epoch);
    txn.state = State::from_id(state)?;
    let topics = array_len(input, flexible)?.unwrap_or(0);
    for _ in 0..topics {
        let length = string_len(input, flexible)?;
        let (topic, rest) = input.split_at_checked(length)?;
        *input = rest;
        let topic: Name = std::str::from_utf8(topic).ok()?.into();
        for _ in 0..array_len(input, flexible)?? {
            txn.partitions.insert((topic.clone(), i32::from_be_bytes(take(input)?)));
        }
        if flexible {
            tags(input, |_, _| Some(()))?;
        }
    }
    txn.updated_ms = i64::from_be_bytes(take(input)?);
    txn.started_ms = i64::from_be_bytes(take(input)?);
    if flexible {
        tags(input, |tag, bytes| {
            match tag {
                PREVIOUS_ID => {
                    txn.previous_id = ProducerId::from_wire(i64::from_be_bytes(bytes.try_into().ok()?))
                }
                NEXT_ID => txn.next_id = ProducerId::from_wire(i64::from_be_bytes(bytes.try_into().ok()?)),
                CLIENT_VERSION => {
                    let level = i16::from_be_bytes(bytes.try_into().ok()?);
                    txn.version = if level >= 2 { Version::V2 } else { Version::V0 };
                }
                _ => {}
            }
            Some(())
        })?;
    }
    Some(txn)
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*head)
}

fn put_uvarint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn uvarint(input: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        let [byte] = take(input)?;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// An array's length; `Some(None)` for a null one.
fn array_len(input: &mut &[u8], flexible: bool) -> Option<Option<usize>> {
    let length =
        if flexible { i64::from(uvarint(input)?) - 1 } else { i64::from(i32::from_be_bytes(take(input)?)) };
    match length {
        -1 => Some(None),
        _ => usize::try_from(length).ok().filter(|n| *n <= MOST_PARTITIONS && *n <= input.len()).map(Some),
    }
}

fn string_len(input: &mut &[u8], flexible: bool) -> Option<usize> {
    if flexible {
        (uvarint(input)? as usize).checked_sub(1)
    } else {
        usize::try_from(i16::from_be_bytes(take(input)?)).ok()
    }
}

fn tags(input: &mut &[u8], mut each: impl FnMut(u32, &[u8]) -> Option<()>) -> Option<()> {
    for _ in 0..uvarint(input)? {
        let tag = uvarint(input)?;
        let length = uvarint(input)? as usize;
        let (bytes, rest) = input.split_at_checked(length)?;
        *input = rest;
        each(tag, bytes)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProducerEpoch;

    fn transaction() -> Transaction {
        let mut txn = Transaction::new(ProducerId(4711), 60_000);
        txn.producer.epoch = ProducerEpoch(3);
        txn.state = State::PrepareCommit;
        txn.partitions = [("a".into(), 0), ("a".into(), 7), ("b".into(), 1)].into_iter().collect();
        (txn.updated_ms, txn.started_ms) = (1_700_000_000_100, 1_700_000_000_000);
        (txn.previous_id, txn.next_id) = (Some(ProducerId(4711)), Some(ProducerId(9000)));
        txn.version = Version::V2;
        txn
    }

    #[test]
    fn records_return_and_cut_ones_are_refused() {
        assert_eq!(decode_key(&encode_key("tx-ü")).as_deref(), Some("tx-ü"));
        for txn in [transaction(), Transaction::new(ProducerId(1), 5), {
            let mut plain = transaction();
            (plain.previous_id, plain.next_id, plain.version) = (None, None, Version::V0);
            plain
        }] {
            let bytes = encode_value(&txn);
            // The last epoch is not stored: a retry that spans a restart is refused, as Kafka does.
            assert_eq!(decode_value(&bytes), Some(txn));
            for cut in 0..bytes.len() {
                assert_eq!(decode_value(&bytes[..cut]), None, "cut at {cut}");
            }
        }
    }

    /// Byte for byte what the schema says; `kafka dump-log --transaction-log-decoder` reads it.
    #[test]
    fn the_layout_is_kafkas() {
        let hex: String = encode_value(&transaction()).iter().map(|b| format!("{b:02x}")).collect();
        let expected = concat!(
            "0001",
            "0000000000001267",
            "0003",
            "0000ea60",
            "02",
            "03",
            "0261",
            "03",
            "0000000000000007",
            "00",
            "0262",
            "02",
            "00000001",
            "00",
            "0000018bcfe56864",
            "0000018bcfe56800",
            "03",
            "0008",
            "0000000000001267",
            "0108",
            "0000000000002328",
            "0202",
            "0002"
        );
        assert_eq!(hex, expected);
    }

    #[test]
    fn the_first_version_is_read() {
        let mut bytes = vec![0, 0];
        bytes.extend(7_i64.to_be_bytes());
        bytes.extend([0, 2, 0, 0, 0, 100, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5]);
        bytes.extend(11_i64.to_be_bytes());
        bytes.extend(10_i64.to_be_bytes());
        let txn = decode_value(&bytes).unwrap();
        assert_eq!((txn.producer, txn.state), (Producer::new(7, 2), State::Ongoing));
        assert_eq!(txn.partitions.iter().collect::<Vec<_>>(), [&("t".into(), 5)]);
        assert_eq!((txn.updated_ms, txn.started_ms, txn.version), (11, 10, Version::V0));
    }

    #[test]
    fn hostile_values_are_refused() {
        let mut seed = 7_u64;
        let sound = encode_value(&transaction());
        for _ in 0..20_000 {
            let mut bytes = sound.to_vec();
            for _ in 0..3 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] = (seed >> 20) as u8;
            }
            let _ = decode_value(&bytes);
            let _ = decode_key(&bytes);
        }
    }
}
