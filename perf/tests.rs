//! The driver against a peer that only answers, and the parsers against `kafka_wire`'s encoders.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_wire::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_wire::{FetchResponse, ProduceResponse};
use kafka_wire_core::{ApiVersion, KafkaEncode, StrBytes};
use weir::client::{Codec, message};

use crate::Outcome;
use crate::driver::{Answer, Window, Work, drive};
use crate::frames;

fn produce_answer(error: i16) -> Bytes {
    let response = message::<ProduceResponse>(|r| {
        r.responses = vec![message::<TopicProduceResponse>(|t| {
            t.name = StrBytes::from("topic");
            t.partition_responses = vec![message::<PartitionProduceResponse>(|p| {
                p.index = 3;
                p.error_code = error;
            })];
        })];
    });
    response.encode_to_bytes(ApiVersion::new(7)).unwrap()
}

fn framed(id: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = (id.len() as u32 + body.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(id);
    out.extend_from_slice(body);
    out
}

/// Answers every frame with the same body.
fn peer(body: Bytes) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut prefix = [0; 4];
        while stream.read_exact(&mut prefix).is_ok() {
            let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
            stream.read_exact(&mut frame).unwrap();
            stream.write_all(&framed(&frame[4..8], &body)).unwrap();
        }
    });
    TcpStream::connect(address).unwrap()
}

struct Constant(Bytes);

impl Work for Constant {
    fn next(&mut self) -> Option<Bytes> {
        Some(self.0.clone())
    }

    fn answer(&mut self, frame: &[u8]) -> Outcome<Answer> {
        Ok(Answer { records: 10, bytes: 100, error: frames::produce_error(frame)? })
    }
}

fn short() -> Window {
    Window { start: Instant::now(), end: Instant::now() + Duration::from_millis(200) }
}

#[test]
fn requests_are_counted_and_errors_are_not_work() {
    let batch = frames::batch(10, 100_000, Codec::None, 1).unwrap();
    let request = frames::produce("topic", 3, batch, -1).unwrap();
    let works = |error| vec![(peer(produce_answer(error)), Constant(request.clone()))];
    let tally = drive(works(0), 7, short()).unwrap();
    assert!(tally.requests > 7 && tally.records == tally.requests * 10, "{}", tally.requests);
    assert_eq!(tally.latency_us.len(), tally.requests);
    let tally = drive(works(3), 1, short()).unwrap();
    assert!(tally.requests == 0 && tally.errors[&3] > 1);
}

#[test]
fn a_peer_that_hangs_up_or_talks_nonsense_ends_the_run() {
    let run = |bytes: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
            stream.write_all(bytes).unwrap();
        });
        let request = frames::produce("topic", 3, Bytes::from_static(b"batch"), -1).unwrap();
        let outcome = drive(vec![(TcpStream::connect(address).unwrap(), Constant(request))], 1, short());
        server.join().unwrap();
        outcome.err().unwrap()
    };
    run(b"");
    assert!(run(b"\0\0\0\x04\0\0\0\x09").contains("correlation id"));
    assert!(run(b"\0\0\0\x05\0\0\0\0\0").contains("cut short"));
}

#[test]
fn fetch_answers_parse_and_offsets_are_patched_in_place() {
    let response = message::<FetchResponse>(|r| {
        r.responses = vec![message::<FetchableTopicResponse>(|t| {
            t.topic = StrBytes::from("topic");
            t.partitions = vec![message::<PartitionData>(|p| {
                p.log_start_offset = 7;
                p.aborted_transactions = Some(vec![Default::default()]);
                p.records = Some(Bytes::from_static(b"records"));
            })];
        })];
    });
    let body = response.encode_to_bytes(ApiVersion::new(11)).unwrap();
    let frame = [&[0; 4][..], &body].concat();
    let answer = frames::fetch_answer(&frame).unwrap();
    assert_eq!((answer.error, answer.log_start_offset, answer.records), (0, 7, &b"records"[..]));
    for cut in 0..frame.len() {
        assert!(frames::fetch_answer(&frame[..cut]).is_err(), "{cut}");
    }
    let (frame, at) = frames::fetch("topic", 1, 1000).unwrap();
    assert_eq!(frame[at..at + 8], [0; 8]);
}
