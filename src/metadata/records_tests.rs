use super::*;
use crate::security::quota::Name;

/// One of each kind, every field with something in it.
pub fn samples() -> Vec<Record> {
    let id = TopicId([7; 16]);
    let endpoint = Endpoint { listener: "PLAINTEXT".into(), host: "here".into(), port: 9092, security: 0 };
    let entity = Entity { user: Some(Name::Default), client_id: Some(Name::Named("c".into())) };
    vec![
        Record::Cluster { id: "cluster".into() },
        Record::FeatureLevel { name: "weir.version".into(), level: 1 },
        Record::BrokerRegistered {
            id: 3,
            incarnation: [1; 16],
            epoch: 300,
            directory: [2; 16],
            endpoints: vec![endpoint],
            rack: Some("r".into()),
            shards: 4,
            features: vec![FeatureRange { name: "f".into(), min: 0, max: 2 }],
            build: "0.1".into(),
        },
        Record::BrokerChanged {
            id: 3,
            epoch: 300,
            fenced: Some(false),
            draining: None,
            shutting_down: Some(true),
        },
        Record::BrokerUnregistered { id: 4, epoch: 9 },
        Record::Topic { id, name: "orders".into() },
        Record::Partition {
            topic: id,
            index: 0,
            leader: Some(1),
            leader_epoch: 5,
            partition_epoch: 6,
            replicas: vec![2, 1, 3],
            isr: vec![2, 1],
            elr: vec![3],
            adding: vec![3],
            removing: vec![2],
            last_known: Some(1),
            recovering: true,
        },
        Record::PartitionChanged {
            topic: id,
            index: 0,
            leader: Some(None),
            replicas: Some(vec![1, 2]),
            isr: Some(vec![]),
            elr: Some(vec![1]),
            adding: Some(vec![]),
            removing: None,
            last_known: Some(None),
            recovering: Some(false),
        },
        Record::TopicDeleted { id },
        Record::DeletedTopics { ids: vec![TopicId([9; 16])] },
        Record::Config { owner: Owner::Topic(id), name: "retention.ms".into(), value: Some("5".into()) },
        Record::Quota { entity, key: "k".into(), value: Some(1.5f64.to_bits()) },
        Record::ProducerIds { next: 1000 },
        Record::TopicRf { topic: id, auto: true },
        Record::ClearElr { topic: Some(id), led: true },
        Record::Large { part: Bracket::Abort },
    ]
}

/// Kinds that came later, and their bytes.
fn later() -> Vec<(Record, &'static [u8])> {
    vec![(Record::VotersByHand { is: true }, &[17, 0, 1, 1])]
}

fn bytes(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    records.iter().for_each(|record| record.encode(&mut out));
    out
}

#[test]
fn records_are_read_back() {
    let all = bytes(&samples());
    assert_eq!(Record::decode_all(&all), Ok(samples()));
    for record in samples() {
        let whole = bytes(std::slice::from_ref(&record));
        for cut in 1..whole.len() {
            assert!(Record::decode_all(&whole[..cut]).is_err(), "{record:?} cut at {cut}");
        }
    }
}

/// What is stored is a promise: the first of these bytes to change breaks every directory there is.
#[test]
fn bytes_are_as_they_were_first_written() {
    let crc = crc32fast::hash(&bytes(&samples()));
    assert_eq!((bytes(&samples()).len(), crc), (BYTES, CRC));
    for (record, written) in later() {
        assert_eq!(bytes(std::slice::from_ref(&record)), written);
        assert_eq!(Record::decode_all(written), Ok(vec![record]));
    }
}

#[test]
fn what_is_not_known_is_a_newer_versions() {
    let mut newer = Vec::new();
    (99u64, 0u64, 0u64).0.put(&mut newer);
    newer.extend([0, 0]);
    assert_eq!(Record::decode_all(&newer), Err(RecordError::Newer { kind: 99, version: 0 }));
    let mut record = bytes(&[Record::ProducerIds { next: 1 }]);
    record[1] = 5;
    assert_eq!(Record::decode_all(&record), Err(RecordError::Newer { kind: 13, version: 5 }));
    record[1] = 0;
    record[2] += 1;
    record.push(0);
    assert_eq!(Record::decode_all(&record), Err(RecordError::Malformed), "more than its fields");
}

mod first {
    use super::super::*;
    records! { Record { Thing = 1, 0 { name: String, } } }
}

mod second {
    use super::super::*;
    records! { Record { Thing = 1, 2 { name: String, [1] count: u32, [2] tags: Vec<String>, } } }
}

#[test]
fn a_record_gains_fields() {
    let mut old = Vec::new();
    first::Record::Thing { name: "a".into() }.encode(&mut old);
    let read = second::Record::decode(&mut Reader(&old));
    assert_eq!(read, Ok(second::Record::Thing { name: "a".into(), count: 0, tags: vec![] }));
    let mut new = Vec::new();
    let written = second::Record::Thing { name: "a".into(), count: 3, tags: vec!["t".into()] };
    written.encode(&mut new);
    assert_eq!(second::Record::decode(&mut Reader(&new)), Ok(written));
    assert_eq!(first::Record::decode(&mut Reader(&new)), Err(RecordError::Newer { kind: 1, version: 2 }));
}

const BYTES: usize = 364;
const CRC: u32 = 205_484_421;
