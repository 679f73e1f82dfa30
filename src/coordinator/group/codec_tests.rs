//! What is stored reads back, and what others stored reads too.

use super::*;

fn offset(expires_at: Option<Ms>, topic_id: TopicId) -> StoredOffset {
    StoredOffset {
        offset: 77,
        leader_epoch: if expires_at.is_some() { -1 } else { 3 },
        metadata: "müll".into(),
        committed_at: 1000,
        expires_at,
        topic_id,
        record_offset: 5,
    }
}

fn group() -> StoredGroup {
    let member = |id: &str, instance: Option<&str>| StoredMember {
        id: id.into(),
        instance: instance.map(Into::into),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout: 300_000,
        session_timeout: 45_000,
        subscription: Bytes::from_static(b"sub"),
        assignment: Bytes::from_static(b"assigned"),
    };
    StoredGroup {
        protocol_type: Some("consumer".into()),
        generation: 9,
        protocol: Some("range".into()),
        leader: Some("a".into()),
        since: Some(123),
        members: vec![member("a", None), member("b", Some("i"))],
    }
}

#[test]
fn what_is_written_reads_back_and_no_cut_of_it_panics() {
    for stored in
        [offset(None, TopicId([7; 16])), offset(None, TopicId::ZERO), offset(Some(5000), TopicId::ZERO)]
    {
        let record = offset_record("g", "t", 4, &stored);
        let key = Key::Offset { group: "g".into(), topic: "t".into(), partition: 4 };
        assert_eq!(read_key(&record.key), Some(key));
        let value = record.value.unwrap();
        assert_eq!(read_offset(&value, 5), Some(stored));
        for cut in 0..value.len() {
            assert_eq!(read_offset(&value[..cut], 5), None, "cut at {cut}");
        }
    }
    for stored in [group(), StoredGroup::default()] {
        let record = group_record("g", &stored);
        assert_eq!(read_key(&record.key), Some(Key::Group("g".into())));
        let value = record.value.unwrap();
        assert_eq!(read_group(&value), Some(stored));
        for cut in 0..value.len() {
            assert_eq!(read_group(&value[..cut]), None, "cut at {cut}");
        }
    }
    for cut in 0..record_key().len() {
        assert_eq!(read_key(&record_key()[..cut]), None);
    }
}

fn record_key() -> Bytes {
    offset_tombstone("group", "topic", 1).key
}

#[test]
fn bytes_are_those_of_kafka() {
    // Written out by hand from Kafka's message schemas.
    assert_eq!(offset_tombstone("g1", "t", 2).key[..], *b"\0\x01\0\x02g1\0\x01t\0\0\0\x02");
    assert_eq!(group_tombstone("g1").key[..], *b"\0\x02\0\x02g1");
    let stored = StoredOffset { metadata: "".into(), ..offset(None, TopicId([1; 16])) };
    let value = offset_record("g", "t", 0, &stored).value.unwrap();
    let mut expected =
        vec![0, 4, 0, 0, 0, 0, 0, 0, 0, 77, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 3, 0xe8, 1, 0, 16];
    expected.extend([1; 16]);
    assert_eq!(value[..], expected[..]);
}

#[test]
fn older_and_foreign_records() {
    // An offset of version 0: offset, metadata, time.
    let value = b"\0\0\0\0\0\0\0\0\0\x09\0\x01m\0\0\0\0\0\0\0\x05";
    let stored = read_offset(value, 1).unwrap();
    assert_eq!((stored.offset, &*stored.metadata, stored.committed_at), (9, "m", 5));
    assert_eq!(read_key(b"\0\x03\0\x01g"), None, "a consumer group of the new protocol");
    assert_eq!(read_offset(b"\0\x09", 0), None);
}

#[test]
fn subscriptions_of_any_version() {
    let subscription = b"\0\x03\0\0\0\x02\0\x01a\0\x02bb\xff\xff\xff\xff\0\0\0\0";
    assert_eq!(subscribed_topics(subscription), Some(vec!["a".into(), "bb".into()]));
    assert_eq!(subscribed_topics(b"\0\0\0\0\0\x02\0\x01a"), None);
    assert_eq!(subscribed_topics(b"\0\0\x7f\xff\xff\xff"), None, "a count without its elements");
    assert_eq!(subscribed_topics(b""), None);
}
