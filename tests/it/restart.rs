//! How long a start takes with many partitions and large segments, after a clean stop, after kill -9 and with another
//! number of shards. The segments are holes that the checkpoint lists: a start reads none of them.
//!
//! ```text
//! WEIR_RESTART_PARTITIONS=10000 cargo test --release --test it starts_fast -- --nocapture
//! ```

use std::fs::{File, create_dir_all};
use std::path::Path;
use std::time::{Duration, Instant};

use weir::log::SegmentMeta;
use weir::log::checkpoint::{Checkpoint, file_paths};

use crate::support::batch::{batch, bytes_of, encoded, now_ms};
use crate::support::broker::needs_own_broker;
use crate::support::calls::{Topic, create, list_offset, produce_at};
use crate::support::{Broker, Options, Wire};

const TOPICS: usize = 10;
/// Of each partition: as many segments of so many bytes and records.
const SEGMENTS: i64 = 4;
const SEGMENT_BYTES: u32 = 2_700_000;
const SEGMENT_RECORDS: i64 = 1000;

/// Gives every partition of the stopped broker's checkpoint segments that are holes.
fn inflate(data: &Path) -> u64 {
    let mut bytes = 0;
    for journal in std::fs::read_dir(data.join("journal")).expect("journals") {
        let journal = journal.expect("an entry").path();
        let loaded = Checkpoint::load(&journal).expect("a checkpoint");
        let Some(mut checkpoint) = loaded.map(|loaded| loaded.checkpoint) else { continue };
        for state in checkpoint.partitions.iter_mut().filter(|state| state.end_offset == 0) {
            let dir = data.join("topics").join(format!("{}-{}", state.topic, state.id.index));
            create_dir_all(&dir).expect("a directory");
            for i in 0..SEGMENTS {
                let meta = SegmentMeta {
                    next_offset: (i + 1) * SEGMENT_RECORDS,
                    size: SEGMENT_BYTES,
                    first_timestamp: now_ms(),
                    max_timestamp: now_ms(),
                    ..SegmentMeta::new(i * SEGMENT_RECORDS, now_ms())
                };
                let file = File::create(dir.join(format!("{:020}.log", meta.base_offset)));
                file.and_then(|f| f.set_len(u64::from(SEGMENT_BYTES))).expect("a segment");
                state.log.segments.push(meta);
                bytes += u64::from(SEGMENT_BYTES);
            }
            let end = SEGMENTS * SEGMENT_RECORDS;
            (state.end_offset, state.high_watermark, state.log.segment_durable_offset) = (end, end, end);
        }
        let paths = file_paths(&journal);
        weir::rt::fs::write_atomic_each(&paths, &checkpoint.encode()).expect("the checkpoint");
    }
    bytes
}

struct Rig {
    broker: Broker,
    topics: Vec<Topic>,
    partitions: i32,
    /// Where the written partitions end.
    written: i64,
}

impl Rig {
    /// Fills the journal some way, over every tenth partition.
    fn produce(&mut self, megabytes: usize) {
        let mut wire = Wire::connect(self.broker.kafka);
        let chosen = (0..self.partitions).step_by(10).flat_map(|p| self.topics.iter().map(move |t| (t, p)));
        let chosen: Vec<_> = chosen.collect();
        let size = (megabytes << 20) / chosen.len();
        for (topic, partition) in &chosen {
            let records = bytes_of(&batch([vec![7_u8; size.max(100)]]));
            assert_eq!(produce_at(&mut wire, 9, topic, *partition, -1, records).error_code, 0);
        }
        self.written += 1;
    }

    fn restart(&mut self, what: &str, shards: usize, limit: Duration) {
        let began = Instant::now();
        self.broker.restart_with(|options| options.shards = shards);
        let took = began.elapsed();
        println!("{what}, {shards} shards: ready after {} ms", took.as_millis());
        let mut wire = Wire::connect(self.broker.kafka);
        for (topic, written) in [(&self.topics[0], self.written), (&self.topics[TOPICS - 1], self.written)] {
            assert_eq!(list_offset(&mut wire, 7, &topic.name, 0, -1).offset, written);
        }
        let slack = if std::env::var_os("WEIR_RESTART_PARTITIONS").is_some() { 1 } else { 4 };
        assert!(took < limit * slack, "{what}: {took:?}");
    }
}

#[test]
fn a_broker_with_many_partitions_starts_fast() {
    if needs_own_broker() {
        return;
    }
    let asked = std::env::var("WEIR_RESTART_PARTITIONS").ok().and_then(|n| n.parse().ok());
    let partitions = asked.unwrap_or(500);
    let args = vec!["--scrub-rate", "0", "--retention-check-interval", "1h"];
    let mut broker = Broker::start_with(Options { args, ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let each = partitions / TOPICS as i32;
    let topics: Vec<Topic> = (0..TOPICS).map(|_| create(&mut wire, "wide", each, &[])).collect();
    assert_eq!(broker.stop().code(), Some(0));
    let bytes = inflate(&broker.data_dir());
    println!(
        "{partitions} partitions, {} segments, {} GB",
        partitions as i64 * SEGMENTS,
        bytes / 1_000_000_000
    );
    let mut rig = Rig { broker, topics, partitions: each, written: SEGMENTS * SEGMENT_RECORDS };
    let (clean, killed) = (Duration::from_secs(2), Duration::from_secs(5));
    rig.restart("after a clean stop", 2, clean);
    for shards in [2, 1, 3, 2] {
        rig.produce(if asked.is_some() { 200 } else { 10 });
        rig.broker.kill();
        rig.restart("after kill -9", shards, killed);
        assert_eq!(rig.broker.stop().code(), Some(0));
        rig.restart("after a clean stop", shards, clean);
        assert_eq!(rig.broker.stop().code(), Some(0));
        let next = if shards == 1 { 2 } else { 1 };
        rig.restart("after a clean stop, from another number", next, clean);
    }
    let reply = produce_at(&mut Wire::connect(rig.broker.kafka), 9, &rig.topics[0], 0, -1, encoded(["last"]));
    assert_eq!((reply.error_code, reply.base_offset), (0, rig.written));
}
