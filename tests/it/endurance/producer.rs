//! Idempotent producers of what a ledger can check.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire_records::Compression;

use super::ledger::{Ledger, Made};
use crate::support::batch::{bytes_of, from_producer};
use crate::support::calls::produce_request;
use crate::support::retrying::{Load, Sent};
use crate::support::{Rng, wire};

pub struct Producer<'a> {
    pub number: u32,
    pub identity: (i64, i16),
    pub ledger: &'a Ledger,
    /// The next number of each partition.
    pub next: HashMap<i32, u64>,
}

impl Load for Producer<'_> {
    /// The first record of a batch, and how many.
    type What = (Made, u32);
    const PAUSE: Duration = Duration::from_millis(50);

    fn acknowledged(&mut self, partition: i32, base_offset: i64, (first, count): (Made, u32)) {
        self.ledger.ack(partition, base_offset, first, count);
    }

    fn make(&mut self, rng: &mut Rng) -> Sent<Self::What> {
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
        Sent { partition, what: (first, count), frame: wire::frame(9, 1, &request) }
    }
}
