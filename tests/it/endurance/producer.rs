//! Idempotent producers that send a batch again until it is acknowledged, whatever happens to the broker.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ProduceRequest;
use kafka_wire_records::Compression;

use super::ledger::{Ledger, Made};
use crate::crash::RETRIABLE;
use crate::support::batch::{bytes_of, from_producer};
use crate::support::calls::{code, produce_request};
use crate::support::{Rng, Wire, wire};

/// Requests in flight: as many batches as a broker remembers of a producer.
const WINDOW: usize = 5;

pub struct Producer<'a> {
    pub number: u32,
    pub addr: SocketAddr,
    pub identity: (i64, i16),
    pub ledger: &'a Ledger,
    /// The next number of each partition.
    next: HashMap<i32, u64>,
    in_flight: VecDeque<Sent>,
}

struct Sent {
    partition: i32,
    first: Made,
    count: u32,
    frame: Bytes,
}

impl<'a> Producer<'a> {
    pub fn new(number: u32, addr: SocketAddr, identity: (i64, i16), ledger: &'a Ledger) -> Self {
        Self { number, addr, identity, ledger, next: HashMap::new(), in_flight: VecDeque::new() }
    }

    /// Until told to stop and all is acknowledged.
    pub fn run(mut self, seed: u64, stop: &AtomicBool) {
        let mut rng = Rng(seed);
        while !stop.load(Ordering::Relaxed) || !self.in_flight.is_empty() {
            if let Ok(mut wire) = Wire::try_connect(self.addr) {
                self.converse(&mut wire, &mut rng, stop);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn converse(&mut self, wire: &mut Wire, rng: &mut Rng, stop: &AtomicBool) {
        for sent in &self.in_flight {
            if !wire.send_rude(&sent.frame) {
                return;
            }
        }
        loop {
            while self.in_flight.len() < WINDOW && !stop.load(Ordering::Relaxed) {
                let sent = self.make(rng);
                let ok = wire.send_rude(&sent.frame);
                self.in_flight.push_back(sent);
                if !ok {
                    return;
                }
                std::thread::sleep(Duration::from_micros(rng.below(50_000)));
            }
            let Some(sent) = self.in_flight.front() else { return };
            let Some(reply) = wire.receive_frame() else { return };
            let reply = wire::decode_reply::<ProduceRequest>(9, 1, reply);
            let answer = &reply.responses[0].partition_responses[0];
            match answer.error_code {
                code::NONE => self.ledger.ack(sent.partition, answer.base_offset, sent.first, sent.count),
                error if RETRIABLE.contains(&error) => return,
                error => panic!("{}/{}: error {error}", self.ledger.topic.name, sent.partition),
            }
            self.in_flight.pop_front();
        }
    }

    fn make(&mut self, rng: &mut Rng) -> Sent {
        let partition = rng.below(self.ledger.partitions() as u64) as i32;
        let next = self.next.entry(partition).or_default();
        let first = Made { producer: self.number, number: *next };
        let count = 1 + rng.below(500) as u32;
        let made = (0..u64::from(count)).map(|i| Made { number: first.number + i, ..first });
        let (id, epoch) = self.identity;
        let mut batch = from_producer(id, epoch, *next as i32, made.clone().map(Made::value));
        if self.ledger.compacted {
            for (record, made) in batch.records.iter_mut().zip(made) {
                record.key = Some(Bytes::copy_from_slice(&made.key().to_be_bytes()));
                if made.is_tombstone() {
                    record.value = None;
                }
            }
        }
        if rng.below(3) == 0 {
            batch.compression = Compression::Lz4;
        }
        *next += u64::from(count);
        let request = produce_request(9, &self.ledger.topic, partition, -1, bytes_of(&batch));
        Sent { partition, first, count, frame: wire::frame(9, 1, &request) }
    }
}
