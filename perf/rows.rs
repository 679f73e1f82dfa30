//! The work that brokers are compared on.

use weir::client::Codec;

use crate::consume::FetchSpec;
use crate::produce::ProduceSpec;

#[derive(Clone, Debug)]
pub enum Work {
    Produce(ProduceSpec),
    Fetch(FetchSpec),
    /// Nothing: what a broker costs when nobody asks for anything.
    Idle,
}

/// Which figure a row is about.
#[derive(Clone, Copy, Debug)]
pub enum Figure {
    Records,
    Megabytes,
    Requests,
    /// Median latency: less is better.
    Median,
    Resident,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub work: Work,
    pub figure: Figure,
}

fn produce(connections: usize, in_flight: usize, records: usize, bytes: usize, partitions: i32) -> Work {
    Work::Produce(ProduceSpec {
        connections,
        in_flight,
        batch_records: records,
        record_bytes: bytes,
        partitions,
        acks: -1,
        codec: Codec::None,
    })
}

fn fetch(max_bytes: i32) -> Work {
    let (connections, partitions) = (2, 2);
    Work::Fetch(FetchSpec { connections, max_bytes, partitions, fill_mib: 128, verify: false })
}

pub fn all() -> Vec<Row> {
    let row = |name, what, work, figure| Row { name, what, work, figure };
    vec![
        row("small-records", "batches of 1,000 × 100 B, 4 × 5", produce(4, 5, 1000, 100, 4), Figure::Records),
        row("kilobyte", "batches of 900 × 1 KiB, 4 × 5", produce(4, 5, 900, 1024, 4), Figure::Megabytes),
        row("single", "one record of 100 B, 32 × 1", produce(32, 1, 1, 100, 4), Figure::Requests),
        row("one", "one connection, one record at a time", produce(1, 1, 1, 100, 1), Figure::Median),
        row("narrow", "10 KB batches, 4 partitions", produce(4, 5, 100, 100, 4), Figure::Records),
        row("wide", "10 KB batches, 1,000 partitions", produce(4, 5, 100, 100, 1000), Figure::Records),
        row("fetch-1m", "fetch of 1 MiB", fetch(1 << 20), Figure::Megabytes),
        row("fetch-8m", "fetch of 8 MiB", fetch(8 << 20), Figure::Megabytes),
        row("idle", "no work", Work::Idle, Figure::Resident),
    ]
}
