//! Opens a disk image with the broker's own recovery and holds what is there against the world.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use weir::controller::Desk;
use weir::log::{LogSettings, PartitionLog, RecoveredPartition, ShardLog, Topics, holdings, relayout};
use weir::metadata::{Image, Resolver, Store, Topic};
use weir::model::{BrokerSettings, LeaderEpoch, Offset, PartitionId, ProducerId, TopicConfig, shard_of};
use weir::partition::producer::{Origin, Producers, Verdict};
use weir::partition::recovered_producers;
use weir::partition::transactions::Aborted;
use weir::shard::topics::View;
use weir::wire::batch::BatchHeader;
use weir::wire::control;

use crate::compacted::Found;
use crate::world::{Entry, Metadata, Partition, World};

/// A data directory that was opened.
pub struct Opened {
    pub controller: Desk,
    pub stores: Vec<Rc<ShardLog>>,
    pub recovered: BTreeMap<PartitionId, RecoveredPartition>,
}

/// What the start of a broker does, up to where it serves.
pub async fn open(dir: &Path, shards: usize, settings: &LogSettings) -> Result<Opened, String> {
    let (meta, settings_of) = (dir.join("meta"), BrokerSettings::default());
    let resolver = Resolver::new(&settings_of);
    let image = Store::inspect(&meta).map_err(|e| format!("the metadata: {e}"))?;
    let view = image.as_ref().map(|image| View { image, resolver: &resolver, of: None, follows: false });
    let held = holdings(dir).map_err(|e| format!("what there is: {e}"))?;
    if let Some(objection) = held.judge(view.as_ref().map(|view| view as &dyn Topics)).first() {
        return Err(format!("refused: {objection}"));
    }
    let controller =
        Desk::open(&meta, &settings_of).map_err(|e| format!("the metadata does not open: {e}"))?;
    let image = controller.image();
    let topics = View { image: &image, resolver: &resolver, of: None, follows: false };
    let producers = |p: &RecoveredPartition| {
        let producers = recovered_producers(p);
        (!producers.is_empty()).then(|| producers.snapshot())
    };
    relayout(dir, shards, &topics, settings, producers).await.map_err(|e| format!("relayout: {e}"))?;
    let strays = weir::log::sweep(dir, &topics).map_err(|e| format!("sweep: {e}"))?;
    if !strays.is_empty() {
        return Err(format!("directories that nobody knows: {strays:?}"));
    }
    let mut opened = Opened { controller, stores: Vec::new(), recovered: BTreeMap::new() };
    for shard in 0..shards {
        let (store, recovered) = ShardLog::open(dir, shard, shards, &topics, settings.clone())
            .await
            .map_err(|e| format!("shard {shard} does not open: {e}"))?;
        opened.stores.push(store);
        opened.recovered.extend(recovered.into_iter().map(|p| (p.id, p)));
    }
    Ok(opened)
}

/// What a topic runs with.
pub fn config_of(image: &Image, topic: &Topic) -> Arc<TopicConfig> {
    Resolver::new(&BrokerSettings::default()).topic(image, &topic.overrides)
}

impl Opened {
    /// Ends what goes on by itself, as the end of the process would; nothing is written for it.
    pub async fn end(self) {
        for store in &self.stores {
            let _ = store.journal().close().await;
        }
    }

    /// The logs of all partitions that the metadata has; those that recovery did not find are made, as a shard does.
    pub fn logs(&self, image: &Image) -> BTreeMap<PartitionId, Rc<PartitionLog>> {
        let mut logs = BTreeMap::new();
        for topic in image.topics() {
            for index in 0..topic.partitions.len() as i32 {
                let id = PartitionId { topic: topic.id, index };
                let store = &self.stores[shard_of(id, self.stores.len())];
                logs.insert(id, store.create(id, topic.name.clone(), config_of(image, topic)));
            }
        }
        logs
    }
}

/// Checks an opened directory against the world at moment `t`; returns where the logs end.
pub async fn check(opened: &Opened, world: &World, t: usize) -> Result<BTreeMap<PartitionId, i64>, String> {
    let image = opened.controller.image();
    let found = Metadata::of(&image, &world.ever);
    let allowed = world.metadata_at(t);
    // Before the first start had a cluster, the next one begins another.
    let is_new = world.metadata.iter().all(|m| m.done > t) && found.topics.is_empty();
    if !is_new && !allowed.iter().any(|m| **m == found) {
        return Err(format!("the metadata is {found:?}\n  instead of one of {allowed:?}"));
    }
    let logs = opened.logs(&image);
    let mut ends = BTreeMap::new();
    for (id, log) in &logs {
        let nothing = Partition::default();
        let partition = world.partitions.get(id).unwrap_or(&nothing);
        let recovered = opened.recovered.get(id);
        if let Some(why) = recovered.and_then(|r| r.repair.clone()) {
            return Err(format!("{id} is marked for repair: {why}"));
        }
        let is_compacted =
            image.topic_by_id(id.topic).is_some_and(|t| config_of(&image, t).cleanup_policy.compact);
        let found = check_log(log, partition, t, is_compacted).await.map_err(|e| format!("{id}: {e}"))?;
        let producers = recovered.map(recovered_producers).unwrap_or_default();
        check_producers(log, partition, &producers, t).map_err(|e| format!("{id}: {e}"))?;
        check_transactions(log, partition, producers, t, found).map_err(|e| format!("{id}: {e}"))?;
        ends.insert(*id, log.end_offset().0);
    }
    Ok(ends)
}

/// Reads the log from its start to its end; what was found, if it is compacted.
async fn check_log(
    log: &PartitionLog,
    partition: &Partition,
    t: usize,
    is_compacted: bool,
) -> Result<Option<Found>, String> {
    let (start, end) = (log.start_offset().0, log.end_offset().0);
    let (low, high) = partition.start_bounds(t);
    if !(low..=high).contains(&start) {
        return Err(format!("the log starts at {start}, not within {low}..={high}"));
    }
    let acked = partition.acked_end(t);
    if end < acked {
        return Err(format!("the log ends at {end}, and {acked} was acknowledged"));
    }
    let allowed = partition.allowed(t);
    let mut at = match allowed.range(..=start).next_back() {
        Some((base, entry)) if entry.header.next_offset() > start => *base,
        _ => start,
    };
    let mut from = start;
    let mut found = is_compacted.then(Found::default);
    let mut epochs: Vec<(i32, i64)> = Vec::new();
    while at < end {
        let slices = log
            .read(Offset(from), Offset(end), 1 << 20, true)
            .await
            .map_err(|e| format!("reading {from}: {e}"))?;
        if slices.is_empty() {
            return Err(format!("nothing can be read at {from} of {start}..{end}"));
        }
        for mut slice in slices {
            while !slice.is_empty() {
                let header = BatchHeader::parse(&slice).map_err(|e| format!("at {at}: {e}"))?;
                if header.size() > slice.len() {
                    return Err(format!("the batch at {at} is cut short"));
                }
                let batch = slice.split_to(header.size());
                at = match &mut found {
                    Some(found) => found.take(&allowed, at, batch)?,
                    None => same(allowed.get(&at).copied(), at, &batch)?,
                };
            }
        }
        from = at;
    }
    if at != end {
        return Err(format!("the last batch ends at {at}, the log at {end}"));
    }
    for (base, entry) in allowed.range(..end).filter(|(_, entry)| entry.header.next_offset() > start) {
        if epochs.last().is_none_or(|(epoch, _)| *epoch < entry.header.leader_epoch) {
            epochs.push((entry.header.leader_epoch, *base));
        }
    }
    for (i, (epoch, _)) in epochs.iter().enumerate() {
        let expected = (*epoch, epochs.get(i + 1).map_or(end, |(_, begins)| *begins));
        let found = log.epoch_end_offset(LeaderEpoch(*epoch)).map(|(epoch, end)| (epoch.0, end.0));
        if found != Some(expected) {
            return Err(format!("leader epoch {epoch} ends at {found:?}, not {expected:?}"));
        }
    }
    if let Some(found) = &found {
        found.judge(&allowed, start, end)?;
    }
    Ok(found)
}

/// Open transactions are still open, and what was aborted is known, from the first batch on that the log has.
fn check_transactions(
    log: &PartitionLog,
    partition: &Partition,
    mut producers: Producers,
    t: usize,
    compacted: Option<Found>,
) -> Result<(), String> {
    let (start, end) = (log.start_offset().0, log.end_offset().0);
    let (mut open, mut aborted) = (BTreeMap::new(), Vec::new());
    for (base, entry) in partition.allowed(t).range(..end) {
        let (base, producer) = (Offset(*base), ProducerId(entry.header.producer_id));
        if let Some(marker) = control::decode(&entry.bytes, &entry.header) {
            let first = open.iter().find(|(_, of)| **of == producer).map(|(first, _)| *first);
            let Some(first) = first else { continue };
            open.remove(&first);
            if !marker.commit && base.0 >= start {
                let stable_offset = open.keys().next().copied().unwrap_or(Offset(base.0 + 1));
                aborted.push(Aborted {
                    producer_id: producer,
                    first_offset: first,
                    last_offset: base,
                    stable_offset,
                });
            }
        } else if entry.header.is_transactional() && !open.values().any(|of| *of == producer) {
            open.insert(base, producer);
        }
    }
    producers.settle(Offset(end));
    producers.cut(Offset(start));
    let transactions = producers.transactions();
    let first = open.keys().next().copied();
    if transactions.first_unstable() != first {
        return Err(format!(
            "the first open transaction begins at {first:?}, not {:?}",
            transactions.first_unstable()
        ));
    }
    let found: Vec<Aborted> = transactions.aborted().copied().collect();
    if let Some(compacted) = compacted {
        return compacted.judge_aborted(&aborted, &found, start);
    }
    match found == aborted {
        true => Ok(()),
        false => Err(format!("aborted are {aborted:?}\n  and not {found:?}")),
    }
}

fn same(expected: Option<&Entry>, at: i64, batch: &[u8]) -> Result<i64, String> {
    let Some(expected) = expected else {
        return Err(format!("there is a batch at {at} that was not written there, or is back from the dead"));
    };
    if expected.bytes != batch {
        let differs = expected.bytes.iter().zip(batch).position(|(a, b)| a != b);
        return Err(format!("the batch at {at} is not what was written: it differs at byte {differs:?}"));
    }
    Ok(expected.header.next_offset())
}

/// The last batches of each producer are known with their offsets, and the one after them is taken.
fn check_producers(
    log: &PartitionLog,
    partition: &Partition,
    producers: &Producers,
    t: usize,
) -> Result<(), String> {
    let there = log.start_offset().0..log.end_offset().0;
    let mut by_producer: HashMap<i64, Vec<&BatchHeader>> = HashMap::new();
    for (base, entry) in partition.allowed(t) {
        if there.contains(&base) && entry.header.producer_id >= 0 && !entry.header.is_control() {
            by_producer.entry(entry.header.producer_id).or_default().push(&entry.header);
        }
    }
    for (id, batches) in by_producer {
        for batch in batches.iter().rev().take(5) {
            let verdict = producers.check(batch, Origin::Client);
            if !matches!(verdict, Ok(Verdict::Duplicate { base_offset, .. }) if base_offset.0 == batch.base_offset)
            {
                let (base, sequence) = (batch.base_offset, batch.base_sequence);
                return Err(format!(
                    "producer {id}'s batch at {base}, sequence {sequence}, sent again: {verdict:?}"
                ));
            }
        }
        let last = batches.last().expect("one at least");
        let next = BatchHeader { base_sequence: last.last_sequence() + 1, ..**last };
        let verdict = producers.check(&next, Origin::Client);
        if verdict != Ok(Verdict::Append) {
            return Err(format!("producer {id}'s next batch: {verdict:?}"));
        }
    }
    Ok(())
}
