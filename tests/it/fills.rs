//! The disk fills, again and again, while segments roll, topics are compacted, checkpoints and metadata are written; by
//! producers, or by others who take the last byte. Reading goes on, producers are told to try again, what makes room
//! works, serving resumes by itself, and nothing acknowledged is lost, kill -9 while it is full included.
//!
//! `WEIR_FILLS=N` runs longer than the sample.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::{CreateTopicsRequest, DeleteRecordsRequest, ProduceRequest};

use crate::limits::{STORAGE_ERROR, delete_topic, journals_are_idle, small_broker};
use crate::support::batch::{batch, bytes_of};
use crate::support::broker::{metric_total, needs_own_broker};
use crate::support::calls::{Topic, code, create, list_offset, metadata_of, produce_request, read_from};
use crate::support::disk::{SmallDisk, take_everything};
use crate::support::wire::{decode_reply, frame};
use crate::support::{Broker, Wire, eventually, msg, unique};

const KEYS: usize = 8;

/// A topic whose record `i` is at offset `i`, in a batch of its own; what was acknowledged are the first `acked`.
struct Subject {
    topic: Topic,
    size: usize,
    compacted: bool,
    acked: usize,
}

impl Subject {
    fn new(wire: &mut Wire, name: &str, size: usize, policy: &str) -> Self {
        let configs = [
            ("segment.bytes", "1048576"),
            ("file.delete.delay.ms", "100"),
            ("cleanup.policy", policy),
            ("min.cleanable.dirty.ratio", "0.1"),
        ];
        let topic = create(wire, name, 1, &configs);
        Self { topic, size, compacted: policy == "compact", acked: 0 }
    }

    fn value(&self, i: usize) -> String {
        format!("{i} {}", "f".repeat(self.size))
    }

    fn next(&self) -> Bytes {
        let mut batch = batch([self.value(self.acked)]);
        batch.records[0].key = Some(format!("key {}", self.acked % KEYS).into());
        bytes_of(&batch)
    }

    /// Everything acknowledged is there, from the log's start on; of a compacted topic, what each key had last.
    fn check(&self, addr: SocketAddr) {
        let (mut wire, name) = (Wire::connect(addr), &self.topic.name);
        let start = list_offset(&mut wire, 7, name, 0, -2).offset;
        let rows = read_from(&mut wire, &self.topic, 0, start);
        for (offset, got) in &rows {
            assert!(got == self.value(*offset as usize).as_bytes(), "{name}: offset {offset}");
        }
        let needed = if self.compacted { self.acked.saturating_sub(KEYS) } else { start as usize };
        let there = rows.iter().filter(|(offset, _)| (needed..self.acked).contains(&(*offset as usize)));
        assert_eq!(there.count(), self.acked.saturating_sub(needed), "{name}: {needed}..{}", self.acked);
    }

    /// After a kill: what was under way may have been kept.
    fn settle(&mut self, addr: SocketAddr) {
        let end = list_offset(&mut Wire::connect(addr), 7, &self.topic.name, 0, -1).offset as usize;
        assert!([self.acked, self.acked + 1].contains(&end), "{}: {end} of {}", self.topic.name, self.acked);
        self.acked = end;
    }
}

/// Produces on a thread of its own, so that an answer may take its time.
struct Sending {
    go: Sender<Bytes>,
    answers: Receiver<Option<i16>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Offered {
    Acked,
    Refused,
    /// There is not even room for the journal: what becomes of it is not known in time.
    TimedOut,
}

impl Sending {
    fn start(addr: SocketAddr) -> Self {
        let ((go, requests), (answer, answers)) = (channel::<Bytes>(), channel());
        std::thread::spawn(move || {
            let Ok(mut wire) = Wire::try_connect(addr) else { return };
            for request in requests {
                let reply = if wire.send_rude(&request) { wire.receive_frame() } else { None };
                let code = reply.map(|reply| {
                    let reply = decode_reply::<ProduceRequest>(9, 1, reply);
                    reply.responses[0].partition_responses[0].error_code
                });
                let _ = answer.send(code);
            }
        });
        Self { go, answers }
    }

    fn offer(&self, subject: &mut Subject) -> Offered {
        let request = produce_request(9, &subject.topic, 0, -1, subject.next());
        self.go.send(frame(9, 1, &request)).expect("the thread waits");
        match self.answers.recv_timeout(Duration::from_secs(15)) {
            Ok(Some(0)) => {
                subject.acked += 1;
                Offered::Acked
            }
            Ok(Some(STORAGE_ERROR)) => Offered::Refused,
            Ok(Some(code::REQUEST_TIMED_OUT)) => Offered::TimedOut,
            Ok(other) => panic!("{}: {other:?} after {}", subject.topic.name, subject.acked),
            Err(_) => panic!("{}: no answer after {}", subject.topic.name, subject.acked),
        }
    }
}

/// A topic that may be refused for want of room: whether it was made.
fn try_create(addr: SocketAddr) -> (String, i16) {
    let name = unique("made-while-full");
    let topic = msg!(CreatableTopic { name: name.as_str().into(), num_partitions: 3, replication_factor: 1 });
    let request = msg!(CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000 });
    (name, Wire::connect(addr).call(7, &request).topics[0].error_code)
}

fn try_delete_records(addr: SocketAddr, topic: &Topic, offset: usize) -> i16 {
    let asked = msg!(DeleteRecordsPartition { partition_index: 0, offset: offset as i64 });
    let topic = msg!(DeleteRecordsTopic { name: topic.name.as_str().into(), partitions: vec![asked] });
    let request = msg!(DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 });
    Wire::connect(addr).call(2, &request).topics[0].partitions[0].error_code
}

struct Cycle<'a> {
    number: usize,
    broker: &'a mut Broker,
    kept: &'a mut Subject,
    table: &'a mut Subject,
    filler: Subject,
    /// What others took.
    taken: PathBuf,
}

impl Cycle<'_> {
    fn others_fill(&self) -> bool {
        self.number % 2 == 1
    }

    fn run(mut self, disk: &SmallDisk) {
        let addr = self.broker.kafka;
        let mut sending = Sending::start(addr);
        if self.others_fill() {
            for _ in 0..40 {
                assert_eq!(sending.offer(&mut self.filler), Offered::Acked);
                assert_eq!(sending.offer(self.table), Offered::Acked);
            }
            take_everything(&self.taken);
        }
        let mut round = 0;
        let (outcome, timed_out) = loop {
            let next = [0, 1, 0, 1, 0, 1, 2][round % 7];
            round += 1;
            assert!(round < 20_000, "the disk never fills");
            let outcome = sending.offer(self.subject(next));
            if outcome != Offered::Acked {
                break (outcome, (outcome == Offered::TimedOut).then_some(next));
            }
        };
        println!(
            "cycle {}: {outcome:?} after {} batches, {} MiB left",
            self.number,
            self.filler.acked,
            disk.free_mib()
        );
        self.check();
        let made = self.work_while_full();
        if self.number % 3 == 2 {
            self.broker.kill();
            self.broker.restart();
            sending = Sending::start(addr);
            if let Some(i) = timed_out {
                self.subject(i).settle(addr);
            }
            self.check();
        }
        let _ = std::fs::remove_file(&self.taken);
        delete_topic(self.broker, &self.filler.topic.clone());
        if let Some(i) = timed_out.filter(|i| *i > 0 && self.number % 3 != 2) {
            journals_are_idle(self.broker);
            self.subject(i).settle(addr);
        }
        for i in 1..3 {
            eventually("producing resumes", Duration::from_secs(20), || {
                sending.offer(self.subject(i)) == Offered::Acked
            });
        }
        for name in made {
            let mut wire = Wire::connect(addr);
            eventually("what was made serves", Duration::from_secs(10), || {
                list_offset(&mut wire, 7, &name, 2, -1).error_code == code::NONE
            });
            delete_topic(self.broker, &Topic { name, id: self.filler.topic.id });
        }
        self.table.check(addr);
        self.kept.check(addr);
    }

    fn subject(&mut self, i: usize) -> &mut Subject {
        [&mut self.filler, &mut *self.table, &mut *self.kept].into_iter().nth(i).expect("one of three")
    }

    fn check(&mut self) {
        let addr = self.broker.kafka;
        (0..3).for_each(|i| self.subject(i).check(addr));
    }

    /// Metadata, checkpoints and deletion; the topics that were made.
    fn work_while_full(&mut self) -> Vec<String> {
        let addr = self.broker.kafka;
        let mut made = Vec::new();
        for _ in 0..5 {
            let (name, error) = try_create(addr);
            match error {
                code::NONE => made.push(name),
                error => {
                    assert!(self.others_fill(), "within the reserve there is room: error {error}");
                    assert_eq!(error, STORAGE_ERROR, "creating a topic on a full disk");
                    let known = metadata_of(&mut Wire::connect(addr), &name, false).error_code;
                    assert_eq!(known, code::UNKNOWN_TOPIC_OR_PARTITION, "{name} was refused");
                }
            }
        }
        // A checkpoint.
        let to = self.filler.acked / 2;
        let deleted = try_delete_records(addr, &self.filler.topic, to);
        assert!([code::NONE, STORAGE_ERROR].contains(&deleted), "DeleteRecords: error {deleted}");
        println!("  {} topics made, DeleteRecords {deleted}", made.len());
        made
    }
}

#[test]
fn a_disk_that_fills_again_and_again_loses_nothing() {
    if needs_own_broker() {
        return;
    }
    let cycles = std::env::var("WEIR_FILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let Some(disk) = SmallDisk::new(160) else { return };
    let mut broker = small_broker(&disk);
    let mut wire = Wire::connect(broker.kafka);
    let mut kept = Subject::new(&mut wire, "kept", 1000, "delete");
    let mut table = Subject::new(&mut wire, "table", 30_000, "compact");
    let mut compacted = 0.0;
    for number in 0..cycles {
        let filler = Subject::new(&mut Wire::connect(broker.kafka), "filler", 100_000, "delete");
        let taken = disk.path().join("taken");
        Cycle { number, broker: &mut broker, kept: &mut kept, table: &mut table, filler, taken }.run(&disk);
        compacted += metric_total(broker.admin, "weir_compaction_removed_records_total").expect("metrics");
    }
    broker.assert_healthy();
    println!("{cycles} cycles, {} and {} records kept, {compacted} compacted", kept.acked, table.acked);
    assert!(compacted > 0.0, "compaction was going on");
    assert_eq!(broker.stop().code(), Some(0), "{}", broker.log());
    broker.restart();
    kept.check(broker.kafka);
    table.check(broker.kafka);
}
