//! A cluster that grows while it is written: what a broker that joins is given, and that nothing is lost on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::failover::read;
use crate::support::broker::needs_own_broker;
use crate::support::calls::{Topic, metadata_of};
use crate::support::cluster::{bootstrap, create, joining, three};
use crate::support::ledger::{Ledger, produce_until};
use crate::support::{Broker, Wire, eventually, unique};

const PARTITIONS: i32 = 24;
/// Far beyond what anything takes on a starved machine; leaders are returned after half a minute.
const LONG: Duration = Duration::from_secs(240);

/// By broker: how many replicas it has, and how many partitions it leads; `None` while a partition has another number of
/// replicas than three, or not all of them in sync.
fn shares(asked: &Broker, topic: &Topic) -> Option<BTreeMap<i32, (usize, usize)>> {
    let mut wire = Wire::try_connect(asked.kafka).ok()?;
    let told = metadata_of(&mut wire, &topic.name, false);
    let mut shares: BTreeMap<i32, (usize, usize)> = BTreeMap::new();
    for partition in &told.partitions {
        if partition.replica_nodes.len() != 3 || partition.isr_nodes.len() != 3 {
            return None;
        }
        partition.replica_nodes.iter().for_each(|id| shares.entry(*id).or_default().0 += 1);
        shares.entry(partition.leader_id).or_default().1 += 1;
    }
    (told.partitions.len() == PARTITIONS as usize).then_some(shares)
}

/// Bytes of segments that a broker's directory has of a partition.
fn on_disk(broker: &Broker, topic: &Topic, partition: i32) -> u64 {
    let dir = broker.data_dir().join("topics").join(format!("{}-{partition}", topic.name));
    let Ok(files) = std::fs::read_dir(dir) else { return 0 };
    let logs = files.flatten().filter(|file| file.path().extension().is_some_and(|is| is == "log"));
    logs.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

#[test]
fn a_fourth_broker_gets_its_share_under_load_and_nothing_is_lost() {
    if needs_own_broker() {
        return;
    }
    let mut all: Vec<Broker> = three().into();
    let topic = create(&all, &unique("grown"), PARTITIONS, 3);
    let (ledger, stop) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
    let at = (bootstrap(&all), topic.name.clone(), PARTITIONS);
    let producers: Vec<_> = (0..2)
        .map(|nth| {
            let (at, ledger, stop) = (at.clone(), ledger.clone(), stop.clone());
            std::thread::spawn(move || produce_until(&stop, &format!("p{nth}"), &at, &ledger))
        })
        .collect();
    eventually("every partition acknowledges", LONG, || ledger.least() > 10);
    all.push(Broker::start_with(joining(&all[1])));
    eventually("the fourth holds its share of replicas and leaders", LONG, || {
        shares(&all[0], &topic).is_some_and(|shares| {
            let fair =
                |(replicas, leads): &(usize, usize)| (16..=20).contains(replicas) && (5..=7).contains(leads);
            shares.len() == 4 && shares.values().all(fair)
        })
    });
    let then = ledger.least();
    eventually("every partition still acknowledges", LONG, || ledger.least() > then);
    stop.store(true, Ordering::Relaxed);
    producers.into_iter().for_each(|producer| producer.join().expect("a producer"));
    assert_eq!(ledger.refused(), Vec::<String>::new());
    all.iter_mut().for_each(Broker::assert_healthy);
    ledger.check(|partition| read(&all, &topic, partition));
    // Whoever gave a replica away keeps nothing of it.
    let told = metadata_of(&mut Wire::connect(all[0].kafka), &topic.name, false);
    for partition in &told.partitions {
        let others = (1..=4).filter(|id| !partition.replica_nodes.contains(id));
        for broker in others.map(|id| &all[id as usize - 1]) {
            eventually("its records are gone", LONG, || {
                on_disk(broker, &topic, partition.partition_index) == 0
            });
        }
    }
}
