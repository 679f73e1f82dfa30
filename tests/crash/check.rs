//! Opens a disk image with the broker's own recovery and holds what is there against the world.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

use weir::cluster::{Controller, Image};
use weir::log::{LogSettings, PartitionLog, RecoveredPartition, ShardLog, relayout};
use weir::model::{BrokerSettings, PartitionId, shard_of};
use weir::partition::producer::{Origin, Producers, Verdict};
use weir::shard::serve::recovered_producers;
use weir::wire::batch::BatchHeader;

use crate::world::{Entry, Metadata, Partition, World};

/// A data directory that was opened.
pub struct Opened {
    pub controller: Controller,
    pub stores: Vec<Rc<ShardLog>>,
    pub recovered: BTreeMap<PartitionId, RecoveredPartition>,
}

/// What the start of a broker does, up to where it serves.
pub async fn open(dir: &Path, shards: usize, settings: &LogSettings) -> Result<Opened, String> {
    let controller = Controller::open(&dir.join("meta"), &BrokerSettings::default())
        .map_err(|e| format!("the metadata does not open: {e}"))?;
    let image = controller.image();
    let producers = |p: &RecoveredPartition| {
        let producers = recovered_producers(p);
        (!producers.is_empty()).then(|| producers.snapshot())
    };
    relayout(dir, shards, &*image, settings, producers).await.map_err(|e| format!("relayout: {e}"))?;
    weir::log::sweep(dir, &*image).map_err(|e| format!("sweep: {e}"))?;
    let mut opened = Opened { controller, stores: Vec::new(), recovered: BTreeMap::new() };
    for shard in 0..shards {
        let (store, recovered) = ShardLog::open(dir, shard, shards, &*image, settings.clone())
            .await
            .map_err(|e| format!("shard {shard} does not open: {e}"))?;
        opened.stores.push(store);
        opened.recovered.extend(recovered.into_iter().map(|p| (p.id, p)));
    }
    Ok(opened)
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
                logs.insert(id, store.create(id, &topic.name, topic.config.clone()));
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
        check_log(log, partition, t).await.map_err(|e| format!("{id}: {e}"))?;
        let producers = recovered.map(recovered_producers).unwrap_or_default();
        check_producers(log, partition, &producers, t).map_err(|e| format!("{id}: {e}"))?;
        ends.insert(*id, log.end_offset());
    }
    Ok(ends)
}

async fn check_log(log: &PartitionLog, partition: &Partition, t: usize) -> Result<(), String> {
    let (start, end) = (log.start_offset(), log.end_offset());
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
    while at < end {
        let slices = log.read(from, end, 1 << 20, true).await.map_err(|e| format!("reading {from}: {e}"))?;
        if slices.is_empty() {
            return Err(format!("nothing can be read at {from} of {start}..{end}"));
        }
        for mut slice in slices {
            while !slice.is_empty() {
                let header = BatchHeader::parse(&slice).map_err(|e| format!("at {at}: {e}"))?;
                if header.size() > slice.len() {
                    return Err(format!("the batch at {at} is cut short"));
                }
                at = same(allowed.get(&at).copied(), at, &slice.split_to(header.size()))?;
            }
        }
        from = at;
    }
    match at == end {
        true => Ok(()),
        false => Err(format!("the last batch ends at {at}, the log at {end}")),
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
    let there = log.start_offset()..log.end_offset();
    let mut by_producer: HashMap<i64, Vec<&BatchHeader>> = HashMap::new();
    for (base, entry) in partition.allowed(t) {
        if there.contains(&base) && entry.header.producer_id >= 0 {
            by_producer.entry(entry.header.producer_id).or_default().push(&entry.header);
        }
    }
    for (id, batches) in by_producer {
        for batch in batches.iter().rev().take(5) {
            let verdict = producers.check(batch, Origin::Client);
            if !matches!(verdict, Ok(Verdict::Duplicate { base_offset, .. }) if base_offset == batch.base_offset)
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
