//! Bytes from people who mean no good, or whose client is broken: a clear error or a closed connection, bounded
//! memory, and no effect on anybody else.

use std::io::Write;
use std::time::{Duration, Instant};

use kafka_wire::{
    AlterConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeTopicPartitionsRequest, FetchRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};

use crate::support::batch::encoded;
use crate::support::broker::needs_own_broker;
use crate::support::calls::{Fetch, Topic, create, produce, produce_request};
use crate::support::{Broker, Options, Rng, Wire, shared, wire};

/// `(key, lowest, highest)` for every API that is served, and whether its highest version is flexible.
const APIS: &[(i16, i16, i16)] = &[
    (0, 3, 13),
    (1, 4, 18),
    (2, 1, 11),
    (3, 0, 13),
    (18, 0, 4),
    (19, 2, 7),
    (20, 1, 6),
    (21, 0, 2),
    (22, 0, 5),
    (23, 2, 4),
    (32, 1, 4),
    (33, 0, 2),
    (37, 0, 3),
    (44, 0, 1),
    (60, 0, 2),
    (75, 0, 0),
];

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes(), body].concat()
}

/// A v1 header with an empty client id; the flexible header's extra byte is left to the body.
fn header(key: i16, version: i16) -> Vec<u8> {
    [&key.to_be_bytes()[..], &version.to_be_bytes(), &7i32.to_be_bytes(), &[0, 0]].concat()
}

/// Sends bytes that cannot be answered and expects the connection to end.
fn check_closed(what: &str, bytes: &[u8]) {
    let mut wire = Wire::connect(shared());
    wire.send_rude(bytes);
    wire.assert_closed(what);
    Wire::connect(shared()).api_versions();
}

#[test]
fn frames_that_cannot_be_trusted_close_the_connection() {
    let metadata = wire::frame(12, 1, &MetadataRequest::default());
    check_closed("length -1", &(-1i32).to_be_bytes());
    check_closed("length i32::MIN", &i32::MIN.to_be_bytes());
    check_closed("length over the limit", &(100 * 1024 * 1024 + 1i32).to_be_bytes());
    check_closed("length i32::MAX", &i32::MAX.to_be_bytes());
    check_closed("shorter than a header", &framed(&[0, 3, 0]));
    check_closed("a header cut in its client id", &framed(&[0, 3, 0, 12, 0, 0, 0, 1, 0, 50, b'x']));
    check_closed("a negative client id length", &framed(&[0, 3, 0, 12, 0, 0, 0, 1, 0x80, 0]));
    check_closed("an unknown API", &framed(&header(999, 0)));
    check_closed("a negative API", &framed(&header(-1, 0)));
    check_closed("version past the last", &framed(&header(3, 99)));
    check_closed("a negative version", &framed(&header(3, -1)));
    check_closed("Produce below what is parsed", &framed(&header(0, 2)));
    check_closed("a body that ends early", &framed(&metadata[4..metadata.len() - 2]));
    check_closed("HTTP", b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n");
    check_closed("TLS", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]);
}

#[test]
fn good_requests_before_a_bad_one_are_answered() {
    let mut wire = Wire::connect(shared());
    let first = wire.send(12, &MetadataRequest::default());
    wire.send_rude(&framed(&header(999, 0)));
    wire.receive::<MetadataRequest>(12, first);
    wire.assert_closed("after the unknown API");
}

#[test]
fn bytes_after_a_request_are_ignored() {
    // librdkafka leaves a few behind its Metadata request for all topics.
    let mut body = wire::frame(12, 1, &MetadataRequest::default())[4..].to_vec();
    body.extend([0, 1, 0]);
    let mut wire = Wire::connect(shared());
    wire.send_raw(&framed(&body));
    let reply = wire.receive_frame().expect("an answer");
    wire::decode_reply::<MetadataRequest>(12, 1, reply);
}

#[test]
fn huge_counts_are_not_believed() {
    for &(key, min, max) in APIS {
        for version in min..=max {
            // Bodies that begin with a count (or soon reach one) of 2 billion, in both encodings.
            for filler in [vec![0x7F; 64], [0xFF, 0xFF, 0xFF, 0xFF, 0x07].repeat(12), vec![0x00; 3]] {
                let mut body = header(key, version);
                body.push(0);
                body.extend(&filler);
                let mut wire = Wire::connect(shared());
                wire.send_rude(&framed(&body));
                // A close or an answer; either way soon, and the broker goes on.
                let _ = wire.receive_frame();
            }
        }
    }
    Wire::connect(shared()).api_versions();
}

/// Every kind of request, filled in enough that a changed byte changes its meaning.
fn specimens(topic: &Topic) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    macro_rules! at_each_version {
        ($request:ty, $make:expr) => {
            let range = <$request as kafka_wire::KafkaMessage>::SUPPORTED_VERSIONS;
            for version in range.min().value()..=range.max().value() {
                let make: fn(&Topic, i16) -> $request = $make;
                let request = make(topic, version);
                all.push((
                    format!("{} v{version}", stringify!($request)),
                    wire::frame(version, 7, &request).to_vec(),
                ));
            }
        };
    }
    at_each_version!(ProduceRequest, |t, v| produce_request(v, t, 0, -1, encoded(["a", "bc", "def"])));
    at_each_version!(FetchRequest, |t, v| Fetch { version: v, ..Fetch::default() }.request(t));
    at_each_version!(MetadataRequest, |_, _| {
        let mut request = MetadataRequest::default();
        request.topics = Some(vec![Default::default()]);
        request.topics.as_mut().expect("topics")[0].name = Some("some".into());
        request.allow_auto_topic_creation = true;
        request
    });
    at_each_version!(ListOffsetsRequest, |_, _| ListOffsetsRequest::default());
    at_each_version!(ApiVersionsRequest, |_, _| ApiVersionsRequest::default());
    at_each_version!(CreateTopicsRequest, |_, _| {
        let mut request = CreateTopicsRequest::default();
        request.topics = vec![Default::default()];
        request.topics[0].name = "fuzzed".into();
        request
    });
    at_each_version!(DeleteTopicsRequest, |_, _| DeleteTopicsRequest::default());
    at_each_version!(DeleteRecordsRequest, |_, _| DeleteRecordsRequest::default());
    at_each_version!(CreatePartitionsRequest, |_, _| CreatePartitionsRequest::default());
    at_each_version!(DescribeConfigsRequest, |_, _| DescribeConfigsRequest::default());
    at_each_version!(AlterConfigsRequest, |_, _| AlterConfigsRequest::default());
    at_each_version!(IncrementalAlterConfigsRequest, |_, _| IncrementalAlterConfigsRequest::default());
    at_each_version!(DescribeClusterRequest, |_, _| DescribeClusterRequest::default());
    at_each_version!(DescribeTopicPartitionsRequest, |_, _| DescribeTopicPartitionsRequest::default());
    at_each_version!(InitProducerIdRequest, |_, _| InitProducerIdRequest::default());
    at_each_version!(OffsetForLeaderEpochRequest, |_, _| OffsetForLeaderEpochRequest::default());
    all
}

/// Flips, cuts, repeats and random bytes behind a length that is right, so that the parser has to see them.
fn mutate(rng: &mut Rng, frame: &[u8]) -> Vec<u8> {
    let mut body = frame[4..].to_vec();
    for _ in 0..=rng.below(3) {
        // The first eight bytes choose the API and are left alone most of the time.
        let at = (8 + rng.below(body.len() as u64)).min(body.len() as u64) as usize;
        match rng.below(6) {
            0 if at < body.len() => body[at] ^= 1 << rng.below(8),
            1 if at < body.len() => body[at] = [0, 0x7F, 0x80, 0xFF][rng.below(4) as usize],
            2 => body.truncate(at.max(8)),
            3 => {
                let extra = rng.below(40) as usize;
                let extra = rng.bytes(extra);
                body.splice(at..at, extra);
            }
            4 if at + 4 <= body.len() => body[at..at + 4].copy_from_slice(&(rng.next() as u32).to_be_bytes()),
            _ => {
                let end = (at + rng.below(30) as usize).min(body.len());
                let piece = body[at..end].to_vec();
                body.splice(at..at, piece);
            }
        }
    }
    framed(&body)
}

#[test]
fn mutated_requests_do_no_harm() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut rng = Rng::from_env();
    let seed = rng.0;
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "fuzz", 2, &[]);
    let rounds = std::env::var("WEIR_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let before = broker.memory_kib("VmRSS");
    for round in 0..rounds {
        for (what, frame) in specimens(&topic) {
            let bytes = mutate(&mut rng, &frame);
            let mut wire = Wire::connect(broker.kafka);
            wire.send_rude(&bytes);
            // Half-close: a request that the broker still waits to complete ends here, without a timeout.
            let _ = wire.stream.shutdown(std::net::Shutdown::Write);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wire.receive_frame()));
            assert!(
                outcome.is_ok(),
                "seed {seed}, round {round}, {what}: neither answered nor closed: {bytes:02x?}"
            );
        }
        println!("seed {seed}: round {round} done");
        broker.assert_healthy();
    }
    let grown = broker.memory_kib("VmRSS").saturating_sub(before);
    assert!(grown < 128 * 1024, "seed {seed}: resident memory grew by {grown} KiB");
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "after", 1, &[]);
    produce(&mut wire, &topic, encoded(["still here"]));
}

#[test]
fn a_request_may_come_one_byte_at_a_time() {
    let frame = wire::frame(3, 9, &{
        let mut request = ApiVersionsRequest::default();
        request.client_software_name = "slow".into();
        request.client_software_version = "1".into();
        request
    });
    let mut slow = Wire::connect(shared());
    for (i, byte) in frame.iter().enumerate() {
        slow.stream.write_all(&[*byte]).expect("a byte");
        std::thread::sleep(Duration::from_millis(10));
        if i % 8 == 0 {
            let asked = Instant::now();
            Wire::connect(shared()).api_versions();
            assert!(asked.elapsed() < Duration::from_secs(2), "a slow neighbour holds nobody back");
        }
    }
    let reply = slow.receive_frame().expect("an answer");
    wire::decode_reply::<ApiVersionsRequest>(3, 9, reply);
}

#[test]
fn claimed_lengths_cost_no_memory() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let before = broker.memory_kib("VmRSS");
    let claim = (90 * 1024 * 1024i32).to_be_bytes();
    let mut liars = Vec::new();
    for _ in 0..30 {
        let mut wire = Wire::connect(broker.kafka);
        wire.send_raw(&[&claim[..], &[0, 0]].concat());
        liars.push(wire);
    }
    std::thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    broker.assert_healthy();
    assert!(asked.elapsed() < Duration::from_secs(2), "others are served meanwhile");
    let grown = broker.memory_kib("VmRSS").saturating_sub(before);
    assert!(grown < 32 * 1024, "30 claims of 90 MiB grew resident memory by {grown} KiB");
}

#[test]
fn real_large_frames_stay_within_the_budget() {
    if needs_own_broker() {
        return;
    }
    let budget = ["--request-memory", "256MiB"].to_vec();
    let mut broker = Broker::start_with(Options { args: budget, ..Options::default() });
    let before = broker.memory_kib("VmRSS");
    // Forty clients that each send 24 MiB of a 90 MiB frame and then stop: the budget decides who is read.
    let senders: Vec<_> = (0..40)
        .map(|_| {
            let mut wire = Wire::connect(broker.kafka);
            std::thread::spawn(move || {
                let _ = wire.stream.set_write_timeout(Some(Duration::from_secs(3)));
                wire.send_rude(&[&(90 * 1024 * 1024i32).to_be_bytes()[..], &header(0, 9)].concat());
                let chunk = vec![0; 1 << 20];
                for _ in 0..24 {
                    if wire.stream.write_all(&chunk).is_err() {
                        break;
                    }
                }
                wire
            })
        })
        .collect();
    let held: Vec<Wire> = senders.into_iter().map(|sender| sender.join().expect("a sender")).collect();
    let grown = broker.memory_kib("VmRSS").saturating_sub(before);
    assert!(grown < 500 * 1024, "40 half-sent frames of 90 MiB grew resident memory by {grown} KiB");
    drop(held);
    broker.assert_healthy();
}

#[test]
fn answers_that_nobody_reads_are_bounded() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "unread", 1, &[]);
    for _ in 0..4 {
        produce(&mut wire, &topic, encoded([vec![b'x'; 1_000_000]]));
    }
    let before = broker.memory_kib("VmRSS");
    // Sixteen clients ask for 4 MB a hundred times over and never read a byte: 6.4 GB if it were all prepared.
    let fetch = Fetch::default();
    let request = wire::frame(fetch.version, 1, &fetch.request(&topic)).repeat(100);
    let deaf: Vec<Wire> = (0..16)
        .map(|_| {
            let mut wire = Wire::connect(broker.kafka);
            wire.stream.set_nonblocking(true).expect("nonblocking");
            wire.send_rude(&request);
            wire
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    broker.assert_healthy();
    let grown = broker.memory_kib("VmRSS").saturating_sub(before);
    assert!(grown < 256 * 1024, "unread answers grew resident memory by {grown} KiB");
    drop(deaf);
    produce(&mut wire, &topic, encoded(["still here"]));
}

#[test]
fn many_connections_come_and_go() {
    let open: Vec<Wire> = (0..300).map(|_| Wire::connect(shared())).collect();
    Wire::connect(shared()).api_versions();
    drop(open);
    for i in 0..300 {
        let mut wire = Wire::connect(shared());
        if i % 2 == 0 {
            wire.send(12, &MetadataRequest::default());
        }
    }
    Wire::connect(shared()).api_versions();
}
