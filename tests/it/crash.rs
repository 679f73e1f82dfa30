//! kill -9, again and again, under load: nothing that was acknowledged is lost, nothing is there twice.
//!
//! Three kinds of producer run against one broker that is killed at random moments, sometimes while it recovers.
//! The ledger holds what was acknowledged: (partition, offset, value). Values are `name:number`, numbers grow by
//! one per producer and partition, so order and repetition show in the log itself.
//!
//! `WEIR_KILLS=N` runs longer than the sample; `WEIR_SEED=N` repeats a run's choices.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::batch::{batch, bytes_of, from_producer};
use crate::support::broker::needs_own_broker;
use crate::support::calls::{
    Topic, code, create, metadata_of, produce, produce_request, producer_id, read_from,
};
use crate::support::ledger::{Ledger, produce_until};
use crate::support::retrying::{Load, Sent};
use crate::support::{Broker, Options, Rng, Wire, msg, retrying, wire};
use kafka_wire::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_wire::{DeleteTopicsRequest, OffsetForLeaderEpochRequest};

const PARTITIONS: i32 = 6;

/// Records for all partitions. With an identity sent until acknowledged; without, no value is ever sent twice.
struct Values {
    name: String,
    topic: Topic,
    identity: Option<(i64, i16)>,
    /// By partition, the next number and the next sequence.
    next: HashMap<i32, (u64, i32)>,
    ledger: Arc<Ledger>,
}

impl Load for Values {
    type What = Vec<String>;
    const PAUSE: Duration = Duration::from_millis(1);

    fn acknowledged(&mut self, partition: i32, base_offset: i64, values: Vec<String>) {
        self.ledger.ack(partition, base_offset, &values);
    }

    fn repeats(&self) -> bool {
        self.identity.is_some()
    }

    fn make(&mut self, rng: &mut Rng) -> Sent<Vec<String>> {
        let partition = rng.below(PARTITIONS as u64) as i32;
        let (number, sequence) = self.next.entry(partition).or_default();
        let pad = "p".repeat(rng.below(600) as usize);
        let count = 1 + rng.below(12);
        let values: Vec<String> =
            (*number..*number + count).map(|n| format!("{}:{n} {pad}", self.name)).collect();
        let records = match self.identity {
            Some((id, epoch)) => from_producer(id, epoch, *sequence, &values),
            None => batch(&values),
        };
        (*number, *sequence) = (*number + count, *sequence + count as i32);
        let acks = if self.identity.is_some() || rng.below(2) == 0 { -1 } else { 1 };
        let request = produce_request(9, &self.topic, partition, acks, bytes_of(&records));
        Sent { partition, what: values, frame: wire::frame(9, 1, &request) }
    }
}

/// Topics made and deleted between kills: what was acknowledged of metadata holds as well.
struct Churn {
    kept: Vec<Topic>,
    deleted: Vec<String>,
}

impl Churn {
    fn act(&mut self, addr: SocketAddr) {
        let mut wire = Wire::connect(addr);
        self.kept.push(create(&mut wire, "churn", 2, &[("retention.ms", "7777777")]));
        if self.kept.len() > 3 {
            let doomed = self.kept.remove(0).name;
            let request =
                msg!(DeleteTopicsRequest { topic_names: vec![doomed.as_str().into()], timeout_ms: 5_000 });
            assert_eq!(wire.call(5, &request).responses[0].error_code, code::NONE, "delete {doomed}");
            self.deleted.push(doomed);
        }
    }

    fn check(&self, addr: SocketAddr) {
        let mut wire = Wire::connect(addr);
        for topic in &self.kept {
            let found = metadata_of(&mut wire, &topic.name, false);
            let got = (found.error_code, found.topic_id, found.partitions.len());
            assert_eq!(got, (code::NONE, topic.id, 2), "{}", topic.name);
        }
        for name in &self.deleted {
            let found = metadata_of(&mut wire, name, false).error_code;
            assert_eq!(found, code::UNKNOWN_TOPIC_OR_PARTITION, "{name} was deleted");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    if needs_own_broker() {
        return;
    }
    let kills = std::env::var("WEIR_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let mut rng = Rng::from_env();
    println!("seed {}", rng.0);
    // Small files and chunks, so that rolling, recycling and checkpoints all happen between two kills.
    let small = ["--journal-file-size", "1MiB", "--journal-max-files", "4", "--flush-chunk", "64KiB"];
    let mut broker = Broker::start_with(Options { args: small.to_vec(), ..Options::default() });
    let addr = broker.kafka;
    let mut wire = Wire::connect(addr);
    let topic = create(&mut wire, "kills", PARTITIONS, &[("segment.bytes", "1048576")]);
    let ledger = Arc::new(Ledger::default());
    let stop = Arc::new(AtomicBool::new(false));
    let mut producers = Vec::new();
    for (name, idempotent) in [("once", true), ("twice", true), ("plain", false)] {
        let producer = Values {
            name: name.to_string(),
            topic: topic.clone(),
            identity: idempotent.then(|| producer_id(&mut wire)),
            next: HashMap::new(),
            ledger: Arc::clone(&ledger),
        };
        let (seed, stop) = (rng.next(), Arc::clone(&stop));
        producers.push(std::thread::spawn(move || retrying::run(producer, addr, seed, &stop)));
    }
    let (name, stop_too, ledger_too) = (topic.name.clone(), Arc::clone(&stop), Arc::clone(&ledger));
    producers.push(std::thread::spawn(move || {
        let at = (addr.to_string(), name, PARTITIONS);
        produce_until(&stop_too, "rdkafka", &at, &ledger_too);
    }));

    let mut churn = Churn { kept: Vec::new(), deleted: Vec::new() };
    for kill in 0..kills {
        churn.act(addr);
        std::thread::sleep(Duration::from_millis(100 + rng.below(1_400)));
        broker.kill();
        while rng.below(4) == 0 {
            broker.crash_while_starting(Duration::from_millis(rng.below(120)));
        }
        broker.restart();
        println!("kill {kill}: {} acknowledged", ledger.len());
        ledger.check(|partition| read_from(&mut Wire::connect(addr), &topic, partition, 0));
        churn.check(addr);
        broker.assert_healthy();
    }
    stop.store(true, Ordering::Relaxed);
    for producer in producers {
        producer.join().expect("a producer");
    }
    assert_eq!(ledger.refused(), Vec::<String>::new());
    assert!(ledger.len() > 100 * kills, "the load was real: {} acknowledged", ledger.len());
    ledger.check(|partition| read_from(&mut Wire::connect(addr), &topic, partition, 0));
    // The same once more from a clean stop and from the files alone.
    assert_eq!(broker.stop().code(), Some(0));
    broker.restart();
    ledger.check(|partition| read_from(&mut Wire::connect(addr), &topic, partition, 0));
}

/// What each epoch up to the newest says of its end: the largest one up to it, and its end.
fn epoch_ends(broker: &Broker, topic: &Topic, epochs: std::ops::RangeInclusive<i32>) -> Vec<(i32, i64)> {
    let asked = |epoch| {
        let partition =
            msg!(OffsetForLeaderPartition { partition: 0, current_leader_epoch: -1, leader_epoch: epoch });
        msg!(OffsetForLeaderTopic { topic: topic.name.as_str().into(), partitions: vec![partition] })
    };
    let mut wire = Wire::connect(broker.kafka);
    let ends = epochs.map(|epoch| {
        let request = msg!(OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![asked(epoch)] });
        let end = wire.call(4, &request).topics[0].partitions[0].clone();
        assert_eq!(end.error_code, code::NONE);
        (end.leader_epoch, end.end_offset)
    });
    ends.collect()
}

/// apache/kafka#23205: an epoch in which nothing was written is as good as any.
#[test]
fn epochs_without_records_outlive_kills() {
    if !needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "epochs", 1, &[]);
    let epoch = |broker: &Broker| {
        metadata_of(&mut Wire::connect(broker.kafka), &topic.name, false).partitions[0].leader_epoch
    };
    let first = epoch(&broker);
    produce(&mut wire, &topic, bytes_of(&batch(["a", "b"])));
    // (epoch, where it began)
    let mut began = vec![(first, 0)];
    for life in 0..4 {
        broker.kill();
        broker.restart();
        let (now, end) = (epoch(&broker), if life < 2 { 2 } else { 3 });
        assert!(now > began.last().expect("there is a first").0);
        // Of those that began where this one did, nothing is left to be told.
        began.retain(|(_, start)| *start < end);
        began.push((now, end));
        let expected = (first..=now).map(|asked| {
            let at = began.partition_point(|(known, _)| *known <= asked) - 1;
            (began[at].0, began.get(at + 1).map_or(end, |(_, start)| *start))
        });
        assert_eq!(epoch_ends(&broker, &topic, first..=now), expected.collect::<Vec<_>>(), "life {life}");
        if life == 1 {
            produce(&mut Wire::connect(broker.kafka), &topic, bytes_of(&batch(["c"])));
        }
    }
}
