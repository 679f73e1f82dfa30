//! Brokers of a cluster die under load, one or several at once: what was acknowledged with acks=all is at every leader that comes
//! after, once, and in the end every replica has the same.
//!
//! `WEIR_FAULTS=N` runs so many faults of all kinds, where the sample kills one broker after another; `WEIR_FAULT=kill1`, `kill2`,
//! `kill3`, `stop` or `pause` confines them to one kind; `WEIR_SEED=N` repeats a run's choices. How long a partition acknowledged
//! nothing is printed for each fault, and at the end for each kind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::metadata_response::MetadataResponseTopic;

use crate::support::broker::needs_own_broker;
use crate::support::calls::{Fetch, Topic, metadata_of};
use crate::support::cluster::{bootstrap, create, three};
use crate::support::ledger::{Ledger, produce_until};
use crate::support::{Broker, Rng, Wire, batch, eventually, unique};

const PARTITIONS: i32 = 12;
const PRODUCERS: usize = 4;
/// Far beyond what anything takes on a starved machine.
const LONG: Duration = Duration::from_secs(120);

/// What happens to brokers, and for how long.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// kill -9, of as many; then they start again.
    Kill(usize),
    Stop,
    /// SIGSTOP, and SIGCONT after so many ms: below and beyond a session.
    Pause(u64),
}

impl Fault {
    fn draw(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0..4 => Self::Kill(1),
            4 => Self::Kill(2),
            5 => Self::Kill(3),
            6 => Self::Stop,
            _ => Self::Pause(200 + rng.below(8_000)),
        }
    }

    fn kind(self) -> String {
        match self {
            Self::Kill(count) => format!("kill{count}"),
            Self::Stop => "stop".to_string(),
            Self::Pause(_) => "pause".to_string(),
        }
    }

    /// One of the kind that is asked for, of any if none is.
    fn draw_of(kind: Option<&str>, rng: &mut Rng) -> Self {
        loop {
            let fault = Self::draw(rng);
            if kind.is_none_or(|kind| kind == fault.kind()) {
                return fault;
            }
        }
    }

    fn strike(self, all: &mut [Broker; 3], rng: &mut Rng) {
        let first = rng.below(3) as usize;
        let down = Duration::from_millis(rng.below(3_000));
        match self {
            Self::Kill(count) => {
                let struck = (0..count).map(|nth| (first + nth) % 3);
                struck.clone().for_each(|nth| all[nth].kill());
                std::thread::sleep(down);
                struck.clone().for_each(|nth| all[nth].start_again());
                struck.for_each(|nth| all[nth].await_ready());
            }
            Self::Stop => {
                assert_eq!(all[first].stop().code(), Some(0));
                std::thread::sleep(down);
                all[first].restart();
            }
            Self::Pause(ms) => {
                all[first].signal(libc::SIGSTOP);
                std::thread::sleep(Duration::from_millis(ms));
                all[first].signal(libc::SIGCONT);
            }
        }
    }
}

fn described(broker: &Broker, topic: &Topic) -> Option<MetadataResponseTopic> {
    let mut wire = Wire::try_connect(broker.kafka).ok()?;
    Some(metadata_of(&mut wire, &topic.name, false))
}

/// Whether everybody says that every partition is led, and that all of its replicas are in sync.
fn is_whole(all: &[Broker; 3], topic: &Topic) -> bool {
    all.iter().all(|broker| {
        described(broker, topic).is_some_and(|told| {
            told.partitions.len() == PARTITIONS as usize
                && told.partitions.iter().all(|p| p.leader_id >= 0 && p.isr_nodes.len() == 3)
        })
    })
}

/// All of a partition up to its high watermark, read at whoever leads it.
pub fn read(all: &[Broker], topic: &Topic, partition: i32) -> Vec<(i64, Bytes)> {
    let (mut rows, mut end) = (Vec::<(i64, Bytes)>::new(), None);
    eventually("a partition is read to its end", LONG, || {
        let Some(told) = described(&all[0], topic) else { return false };
        let leader = told.partitions.iter().find(|p| p.partition_index == partition).map(|p| p.leader_id);
        let leader = leader.and_then(|id| all.get(usize::try_from(id - 1).ok()?));
        let Some(mut wire) = leader.and_then(|leader| Wire::try_connect(leader.kafka).ok()) else {
            return false;
        };
        loop {
            let next = rows.last().map_or(0, |(at, _)| at + 1);
            let data = Fetch { partition, offset: next, ..Fetch::default() }.run(&mut wire, topic);
            if data.error_code != 0 {
                assert!(matches!(data.error_code, 3 | 5 | 6 | 9 | 74 | 75), "fetch: {}", data.error_code);
                return false;
            }
            let got = batch::rows(data.records.unwrap_or_default());
            rows.extend(got.into_iter().filter(|(at, _)| *at >= next));
            let upto = *end.get_or_insert(data.high_watermark);
            if rows.last().map_or(0, |(at, _)| at + 1) >= upto {
                return true;
            }
        }
    });
    rows
}

/// Who sent the batch at an offset, and who led when it came.
fn origin(all: &[Broker; 3], topic: &Topic, partition: i32, offset: i64) -> String {
    let mut batches = all.iter().map(|broker| {
        let mut wire = Wire::connect(broker.kafka);
        let data = Fetch { partition, offset, ..Fetch::default() }.run(&mut wire, topic);
        batch::decode_all(data.records.unwrap_or_default())
    });
    batches.find_map(|batches| batches.into_iter().next()).map_or_else(String::new, |batch| {
        format!(
            "{offset} in {}..={} (producer {} epoch {} sequence {}, leader epoch {}, made at {})",
            batch.base_offset,
            batch.base_offset + i64::from(batch.last_offset_delta),
            batch.producer_id,
            batch.producer_epoch,
            batch.base_sequence,
            batch.partition_leader_epoch,
            batch.max_timestamp,
        )
    })
}

/// The batches of one replica, in order, as its files have them.
fn batches(data: &Path, topic: &Topic, partition: i32) -> Vec<u8> {
    let dir = data.join("topics").join(format!("{}-{partition}", topic.name));
    let files = std::fs::read_dir(&dir).expect("the partition's directory");
    let mut files: Vec<_> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files.iter().flat_map(|file| std::fs::read(file).expect("a segment")).collect()
}

/// Of each producer whose epoch has risen, how far: its client began anew where a broker told it of a gap.
fn risen(batches: &[u8]) -> BTreeMap<i64, i16> {
    let mut epochs = BTreeMap::new();
    for batch in batch::decode_all(Bytes::copy_from_slice(batches)) {
        let epoch = epochs.entry(batch.producer_id).or_insert(0);
        *epoch = batch.producer_epoch.max(*epoch);
    }
    epochs.retain(|_, epoch| *epoch > 0);
    epochs
}

#[test]
fn nothing_acknowledged_by_all_is_lost_with_brokers() {
    if needs_own_broker() {
        return;
    }
    let asked = std::env::var("WEIR_FAULTS").ok().and_then(|n| n.parse().ok());
    let faults = asked.unwrap_or(2);
    let kind = std::env::var("WEIR_FAULT").ok().or_else(|| asked.is_none().then(|| "kill1".to_string()));
    assert!(
        kind.as_deref().is_none_or(|kind| ["kill1", "kill2", "kill3", "stop", "pause"].contains(&kind)),
        "WEIR_FAULT is {kind:?}"
    );
    let mut silences = BTreeMap::<String, Vec<Duration>>::new();
    let mut rng = Rng::from_env();
    println!("seed {}", rng.0);
    let mut all = three();
    let topic = create(&all, &unique("replicated"), PARTITIONS, 3);
    let servers = bootstrap(&all);
    let (ledger, stop) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|nth| {
            let at = (servers.clone(), topic.name.clone(), PARTITIONS);
            let (ledger, stop) = (ledger.clone(), stop.clone());
            std::thread::spawn(move || produce_until(&stop, &format!("p{nth}"), &at, &ledger))
        })
        .collect();
    let all_acknowledge = |least: usize| {
        eventually("every partition acknowledges", LONG, || ledger.least() >= least);
    };
    let check = |all: &[Broker; 3]| {
        ledger.check_explained(
            |partition| read(all, &topic, partition),
            |partition, offset| origin(all, &topic, partition, offset),
        );
    };
    all_acknowledge(1);
    for number in 0..faults {
        std::thread::sleep(Duration::from_millis(rng.below(1_500)));
        let fault = Fault::draw_of(kind.as_deref(), &mut rng);
        ledger.silence();
        fault.strike(&mut all, &mut rng);
        eventually("every replica is in sync again", LONG, || is_whole(&all, &topic));
        all_acknowledge(ledger.least() + 1);
        let silence = ledger.silence();
        silences.entry(fault.kind()).or_default().push(silence);
        println!("{number}: {fault:?}, silent for {silence:?}, {} acknowledged", ledger.len());
        // All of it each time would take ever longer.
        if number % 10 == 9 || number + 1 == faults {
            check(&all);
        }
        all.iter_mut().for_each(Broker::assert_healthy);
    }
    for (kind, mut silences) in silences {
        silences.sort();
        let (p50, worst) = (silences[silences.len() / 2], silences[silences.len() - 1]);
        println!("{kind}: {} times, silent for {p50:?} (p50), {worst:?} (worst)", silences.len());
    }
    stop.store(true, Ordering::Relaxed);
    producers.into_iter().for_each(|producer| producer.join().expect("a producer"));
    assert_eq!(ledger.refused(), Vec::<String>::new());
    assert!(ledger.len() > 100 * faults, "the load was real: {} acknowledged", ledger.len());
    check(&all);
    // Followers know of the last high watermark a moment later.
    eventually("every replica is in sync", LONG, || is_whole(&all, &topic));
    std::thread::sleep(Duration::from_secs(1));
    all.iter().for_each(|broker| broker.signal(libc::SIGTERM));
    all.iter_mut().for_each(|broker| assert_eq!(broker.wait_exit(LONG).code(), Some(0)));
    for partition in 0..PARTITIONS {
        let [first, others @ ..] = [0, 1, 2].map(|nth| batches(&all[nth].data_dir(), &topic, partition));
        assert!(!first.is_empty());
        others.iter().for_each(|other| assert!(first == *other, "replicas of partition {partition} differ"));
        match risen(&first) {
            none if none.is_empty() => {}
            epochs => println!("partition {partition}: epochs by producer {epochs:?}"),
        }
    }
}
