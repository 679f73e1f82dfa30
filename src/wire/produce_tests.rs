use kafka_wire::ProduceRequest;
use kafka_wire::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire_core::{ApiVersion, Bytes, KafkaEncode, TaggedField, TaggedFields, Uuid};

use super::*;

fn tags() -> TaggedFields {
    TaggedFields::from_sorted(vec![
        TaggedField::new(3, Bytes::from_static(b"abc")),
        TaggedField::new(900, Bytes::new()),
    ])
    .unwrap()
}

fn request(version: i16, with_tags: bool) -> ProduceRequest {
    let mut request = ProduceRequest::default();
    request.transactional_id = (version % 2 == 0).then(|| StrBytes::from("tx"));
    request.acks = -1;
    request.timeout_ms = 30_000;
    for t in 0..3u8 {
        let mut topic = TopicProduceData::default();
        if version >= 13 {
            topic.topic_id = Uuid::from_bytes([t + 1; 16]);
        } else {
            topic.name = StrBytes::from(format!("topic-{t}"));
        }
        for p in 0..i32::from(t) * 2 {
            let mut partition = PartitionProduceData::default();
            partition.index = p;
            partition.records = (p != 1).then(|| Bytes::from(vec![p as u8; 200 * p as usize]));
            if with_tags {
                partition.unknown_tagged_fields = tags();
            }
            topic.partition_data.push(partition);
        }
        if with_tags {
            topic.unknown_tagged_fields = tags();
        }
        request.topic_data.push(topic);
    }
    if with_tags {
        request.unknown_tagged_fields = tags();
    }
    request
}

fn encoded(request: &ProduceRequest, version: i16) -> Bytes {
    request.encode_to_bytes(ApiVersion::new(version)).unwrap()
}

fn check(request: &ProduceRequest, version: i16) {
    let body = BytesMut::from(&encoded(request, version)[..]);
    let frame = body.as_ptr_range();
    let parsed = ProduceFrame::parse(body, version).unwrap();
    assert_eq!(parsed.transactional_id, request.transactional_id);
    assert_eq!((parsed.acks, parsed.timeout_ms), (request.acks, request.timeout_ms));
    assert_eq!(parsed.topics.len(), request.topic_data.len());
    for (got, want) in parsed.topics.iter().zip(&request.topic_data) {
        assert_eq!(got.name, want.name);
        assert_eq!(got.id.0, want.topic_id.to_bytes());
        assert_eq!(got.partitions.len(), want.partition_data.len());
        for (got, want) in got.partitions.iter().zip(&want.partition_data) {
            assert_eq!(got.index, want.index);
            assert_eq!(got.records.as_deref(), want.records.as_deref());
            if let Some(records) = got.records.as_ref().filter(|r| !r.is_empty()) {
                assert!(frame.contains(&records.as_ptr()), "records were copied");
            }
        }
    }
}

#[test]
fn every_version_parses_as_the_reference_encodes() {
    for version in MIN_VERSION..=MAX_VERSION {
        check(&request(version, false), version);
        check(&ProduceRequest::default(), version);
        if version >= FLEXIBLE_FROM {
            check(&request(version, true), version);
        }
    }
}

#[test]
fn what_the_reference_refuses_is_refused() {
    use kafka_wire_core::{DecodeLimits, KafkaDecode};
    for version in MIN_VERSION..=MAX_VERSION {
        let whole = encoded(&request(version, version >= FLEXIBLE_FROM), version);
        for cut in 0..whole.len() {
            assert!(ProduceFrame::parse(BytesMut::from(&whole[..cut]), version).is_err(), "v{version} {cut}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(ProduceFrame::parse(longer[..].into(), version).is_ok(), "v{version}");
        // One changed byte: both take it or both refuse it, but for limits and tag order, where ours differ.
        for at in 0..whole.len().min(400) {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[at] = value;
                let reference = ProduceRequest::decode_from_bytes(
                    Bytes::from(bytes.clone()),
                    ApiVersion::new(version),
                    DecodeLimits::default(),
                );
                let ours = ProduceFrame::parse(bytes[..].into(), version);
                if let Ok(want) = reference {
                    let got = ours.unwrap_or_else(|e| panic!("v{version} byte {at}={value:#x}: {e}"));
                    assert_eq!(got.topics.len(), want.topic_data.len());
                }
            }
        }
    }
}

#[test]
fn claimed_lengths_allocate_nothing() {
    let mut legacy = vec![0xff, 0xff, 0, 1, 0, 0, 0, 0];
    let hostile: [&[u8]; 5] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0],
        &[0, 0, 0, 1, 0x7f, 0xff, b'x'],
        &[0, 0, 0, 1, 0, 1, b'x', 0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 1, 0, 1, b'x', 0, 0, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff],
    ];
    for tail in hostile {
        legacy.truncate(8);
        legacy.extend_from_slice(tail);
        assert!(ProduceFrame::parse(legacy[..].into(), 3).is_err(), "{tail:?}");
    }
    let many = [&[0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 0][..], &vec![0; 8 << 20]].concat();
    assert_eq!(ProduceFrame::parse(many[..].into(), 3).unwrap_err(), WireError::TooMany(MAX_ENTRIES));
}

#[test]
fn unserved_versions_are_refused() {
    for version in [-1, 0, 2, 14, i16::MAX] {
        assert_eq!(ProduceFrame::parse(BytesMut::new(), version).unwrap_err(), WireError::Version(version));
    }
}

/// Bytes that look like nothing, and requests with several bytes changed: an error or a request, never a panic.
#[test]
fn random_bytes_never_panic() {
    let seed = std::env::var("WEIR_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5eed_u64);
    println!("WEIR_SEED={seed}");
    let mut state = seed;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below.max(1)
    };
    for _ in 0..20_000 {
        let version = MIN_VERSION + random(11) as i16;
        let mut bytes =
            encoded(&request(version, version >= FLEXIBLE_FROM && random(2) == 0), version).to_vec();
        if random(3) == 0 {
            bytes = (0..random(64)).map(|_| random(256) as u8).collect();
        }
        for _ in 0..random(6) {
            let (at, value) = (random(bytes.len()), random(256) as u8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(bytes.len() - random(3).min(bytes.len()));
        let _ = ProduceFrame::parse(bytes[..].into(), version);
    }
}
