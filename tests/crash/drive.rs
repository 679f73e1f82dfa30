//! The workload of a recording: a start, then appends by idempotent and transactional producers, topics that come, change and go,
//! DeleteRecords, with flushing, rolling, checkpoints, journal reuse, retention and compaction going on beside; a close, or not.

#[path = "copies.rs"]
mod copies;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use kafka_wire_records::{Compression, Record as WireRecord, RecordBatch, RecordEncodeLimits, TimestampType};
use weir::controller::{
    ConfigChange, ConfigOp, ConfigResource, ControlReply, ControlRequest, NewPartitions, NewTopic, TopicRef,
};
use weir::log::compact::{Policy, Work};
use weir::log::{LogError, LogSettings, Lsn, PartitionLog, ShardLog};
use weir::metadata::{Image, Topic};
use weir::model::{LeaderEpoch, MonoMs, Offset, PartitionId, Producer, shard_of};
use weir::partition::recovered_producers;
use weir::partition::{Appended, Assignment, EndOfTxn, Host, Replica};
use weir::rt;
use weir::rt::record::Recording;
use weir::wire::ProducedBatch;
use weir::wire::batch::BatchHeader;
use weir::wire::control::{self, EndMarker};
use weir::wire::validate::{Effort, Sound};

use copies::COPIES;

use crate::check::{self, Opened};
use crate::random::Random;
use crate::world::{Entry, Metadata, MetadataState, NEVER, World};

/// Checked as on the produce path.
pub fn sound(replica: &Replica, bytes: BytesMut) -> Sound {
    let batch = ProducedBatch::parse(bytes).expect("a batch");
    Sound::check(batch, &replica.rules(rt::wall()), Effort::Full { memory: 1 << 20 }, &mut Vec::new())
        .expect("a sound batch")
}

const TOPICS: [&str; 4] = ["orders", "clicks", "audit", "mail"];

/// How large things are.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub steps: usize,
    pub large: bool,
}

impl Scale {
    pub fn settings(self) -> LogSettings {
        let unit = if self.large { 16 } else { 1 };
        LogSettings {
            journal_file_bytes: (64 << 10) * unit,
            journal_max_files: 4,
            max_commit_bytes: (24 << 10) * unit as usize,
            zero_ahead_bytes: (16 << 10) * unit,
            flush_chunk_bytes: (8 << 10) * unit as usize,
            bypass_bytes: (4 << 10) * unit as usize,
            tail_bytes: (192 << 10) * unit as usize,
            cache_bytes: 64 << 10,
            retention_interval: Duration::from_millis(7),
            checkpoint_interval: Duration::from_millis(5),
            ..LogSettings::default()
        }
    }

    fn payload(self, random: &mut Random) -> usize {
        let unit = if self.large { 40 } else { 1 };
        match random.below(40) {
            0 => 70_000 * unit.min(8),
            1..=4 => random.below(9000) * unit,
            _ => random.below(1500) * unit,
        }
    }
}

/// Truncations and resets, all runs together.
pub static TRUNCATED: AtomicU64 = AtomicU64::new(0);

/// What compaction did, all runs together: records read, records kept, segments replaced.
pub static COMPACTED: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

type Replicas = Rc<RefCell<BTreeMap<PartitionId, Rc<Replica>>>>;

struct Drive<'a> {
    recording: &'a Recording,
    random: &'a mut Random,
    world: &'a mut World,
    scale: Scale,
    opened: Opened,
    replicas: Replicas,
    /// The partitions that are only copied.
    copies: BTreeMap<PartitionId, Rc<PartitionLog>>,
    /// What waits for its shard's journal: the shard, the lsn, the partition, the entry's place.
    waiting: Vec<(usize, Lsn, PartitionId, usize)>,
    /// Each partition's producer, its next sequence, and the batch it sent last.
    producers: BTreeMap<PartitionId, (i64, i32, Option<BytesMut>)>,
    /// Each partition's transactional producers: id, next sequence, whether a transaction is open.
    transactional: BTreeMap<PartitionId, [(i64, i32, bool); 3]>,
}

/// What goes on by itself when a run is over.
pub struct Running {
    stores: Vec<Rc<ShardLog>>,
    closing: Rc<Cell<bool>>,
    compacting: Vec<rt::Task<Result<(), String>>>,
}

impl Running {
    /// Ends it in order, so that its files are closed.
    pub async fn end(self) {
        self.closing.set(true);
        for task in self.compacting {
            let _ = task.await;
        }
        for store in self.stores {
            let _ = store.close(|_| None).await;
        }
    }
}

/// Opens the directory and works on it. What it did is in `world` then; an error is a violation.
pub async fn run(
    dir: &Path,
    recording: &Recording,
    random: &mut Random,
    world: &mut World,
    shards: usize,
    scale: Scale,
) -> Result<Running, String> {
    let opened = check::open(dir, shards, &scale.settings()).await?;
    let now = recording.len();
    check::check(&opened, world, now).await.map_err(|e| format!("after a recorded start: {e}"))?;
    let mut drive = Drive {
        recording,
        random,
        world,
        scale,
        opened,
        replicas: Replicas::default(),
        copies: BTreeMap::new(),
        waiting: Vec::new(),
        producers: BTreeMap::new(),
        transactional: BTreeMap::new(),
    };
    drive.settle();
    for store in drive.opened.stores.clone() {
        let replicas = drive.replicas.clone();
        let state = move |id| replicas.borrow().get(&id).and_then(|r| r.producer_snapshot());
        let replicas = drive.replicas.clone();
        let committed = move |id| replicas.borrow().get(&id).map_or(Offset::ZERO, |r| r.high_watermark());
        rt::spawn(async move { store.maintain(state, committed).await });
    }
    let closing = Rc::new(Cell::new(false));
    let mut compacting: Vec<_> = drive
        .opened
        .stores
        .iter()
        .map(|store| rt::spawn(compact(store.clone(), drive.replicas.clone(), closing.clone())))
        .collect();
    for _ in 0..drive.scale.steps {
        drive.step().await?;
        drive.observe();
    }
    // Some runs end while a pass is under way.
    closing.set(drive.random.chance(70));
    let mut done = Ok(());
    if closing.get() {
        for task in compacting.drain(..) {
            done = done.and(task.await);
        }
    }
    done?;
    drive.observe();
    let mut stores = drive.opened.stores.clone();
    if drive.random.chance(40) {
        for store in stores.drain(..) {
            let replicas = drive.replicas.clone();
            store
                .close(|id| replicas.borrow().get(&id).and_then(|r| r.producer_snapshot()))
                .await
                .map_err(|e| format!("the close failed: {e}"))?;
        }
        drive.observe();
    }
    Ok(Running { stores, closing, compacting })
}

/// What a shard does to compact its partitions, more eagerly.
async fn compact(store: Rc<ShardLog>, replicas: Replicas, closing: Rc<Cell<bool>>) -> Result<(), String> {
    while !closing.get() {
        rt::sleep(Duration::from_millis(2)).await;
        let of_shard: Vec<Rc<Replica>> = replicas.borrow().values().cloned().collect();
        let mut found = Vec::new();
        for replica in of_shard.into_iter().filter(|replica| store.get(replica.id).is_some()) {
            let policy = Policy::from(&*replica.config());
            if policy.compact && replica.write_what_rolls().await.is_ok() {
                let candidate = replica.compaction_candidate(&policy, rt::wall()).await;
                found.extend(candidate.map(|candidate| (replica, candidate, policy)));
            }
        }
        if found.is_empty() || checkpoint(&store, &replicas).await.is_err() {
            continue;
        }
        for (replica, candidate, policy) in found {
            // A small map, so that a pass is at times not enough.
            let work =
                Work { map_bytes: 4 << 10, activity: &|| 0, rate: &|| u64::MAX, stop: &|| closing.get() };
            match replica.compact(candidate, &policy, &work).await {
                Ok(passed) => {
                    let did = [passed.records_read, passed.records_kept, passed.segments_replaced];
                    COMPACTED.iter().zip(did).for_each(|(sum, n)| {
                        sum.fetch_add(n, Ordering::Relaxed);
                    });
                }
                Err(LogError::Corrupt { .. }) => {
                    return Err(format!(
                        "{} cannot be compacted: {:?}",
                        replica.id,
                        store.get(replica.id).map(|log| log.compaction_failed())
                    ));
                }
                Err(_) => {}
            }
        }
        let _ = checkpoint(&store, &replicas).await;
    }
    Ok(())
}

async fn checkpoint(store: &ShardLog, replicas: &Replicas) -> Result<(), LogError> {
    store.checkpoint(|id| replicas.borrow().get(&id).and_then(|r| r.producer_snapshot())).await
}

impl Drive<'_> {
    fn now(&self) -> usize {
        self.recording.len()
    }

    /// What recovery found is what there is from now on.
    fn settle(&mut self) {
        let now = self.now();
        let image = self.opened.controller.image();
        for (id, log) in self.opened.logs(&image) {
            let partition = self.world.partitions.entry(id).or_default();
            for entry in &mut partition.entries {
                if entry.header.next_offset() <= log.end_offset().0 {
                    entry.acked = entry.acked.min(now);
                } else {
                    entry.dropped = now;
                }
            }
            let Some(topic) = image.topic_by_id(id.topic) else { continue };
            if &*topic.name == COPIES {
                self.copies.insert(id, log);
                continue;
            }
            let replica = leader(&self.opened, &image, topic, id, log);
            if let Some(recovered) = self.opened.recovered.get(&id) {
                replica.set_producers(recovered_producers(recovered));
            }
            self.replicas.borrow_mut().insert(id, Rc::new(replica));
            self.take_over(id);
        }
        let state = Metadata::of(&image, &self.world.ever);
        self.world.metadata.push(MetadataState { begun: 0, done: now, state });
        self.observe();
    }

    /// Goes on with the transactions that an earlier run left open: nothing past them would be compacted ever again.
    fn take_over(&mut self, id: PartitionId) {
        let mut open: BTreeMap<i64, i32> = BTreeMap::new();
        for entry in self.world.partitions[&id].entries.iter().filter(|entry| entry.dropped == NEVER) {
            let producer = entry.header.producer_id;
            if entry.header.is_control() {
                open.remove(&producer);
            } else if entry.header.is_transactional() {
                open.insert(producer, entry.header.last_sequence() + 1);
            }
        }
        if open.is_empty() {
            return;
        }
        let mut left = open.into_iter().map(|(producer, next)| (producer, next, true));
        let world = &mut *self.world;
        let slots = [(); 3].map(|()| {
            left.next().unwrap_or_else(|| {
                world.next_producer += 1;
                (world.next_producer, 0, false)
            })
        });
        self.transactional.insert(id, slots);
    }

    /// Notes which log starts can be seen and which appends were acknowledged.
    fn observe(&mut self) {
        let now = self.now();
        let stores = &self.opened.stores;
        let partitions = &mut self.world.partitions;
        self.waiting.retain(|(shard, lsn, id, place)| {
            let durable = stores[*shard].journal().is_durable(*lsn);
            if durable && let Some(partition) = partitions.get_mut(id) {
                partition.entries[*place].acked = now;
            }
            !durable
        });
        let replicas = self.replicas.borrow();
        for (id, replica) in &*replicas {
            let journal = stores[shard_of(*id, stores.len())].journal();
            replica.on_durable(|lsn| journal.is_durable(lsn));
        }
        let led = replicas.iter().map(|(id, replica)| (id, replica.offsets().log_start().0));
        let copied = self.copies.iter().map(|(id, log)| (id, log.start_offset().0));
        for (id, start) in led.chain(copied) {
            let partition = partitions.entry(*id).or_default();
            match partition.starts.last_mut() {
                Some((at, seen)) if *seen == start => *at = now,
                _ => partition.starts.push((now, start)),
            }
        }
    }

    async fn step(&mut self) -> Result<(), String> {
        let ids: Vec<PartitionId> = self.replicas.borrow().keys().copied().collect();
        if ids.len() < 2 {
            return self.create_topic();
        }
        if self.random.chance(15) {
            return self.copy().await;
        }
        // Half of what happens is about one partition, so that its log gets somewhere.
        let of = if self.random.chance(50) { ids.len() } else { 1 };
        let id = ids[self.random.below(of)];
        match self.random.below(100) {
            0..=1 => self.create_topic(),
            2 => self.delete_topic(id).await,
            3 => self.grow_topic(id),
            4 => self.configure(id),
            5 => self.allocate_producers(),
            6..=7 => self.delete_records(id).await,
            8..=9 => self.flush(id).await,
            10..=13 => self.wait(id).await,
            14..=17 => {
                rt::sleep(Duration::from_millis(1 + self.random.below(4) as u64)).await;
                Ok(())
            }
            18..=27 => {
                rt::yield_now().await;
                Ok(())
            }
            28..=33 => self.send_again(id).await,
            34..=47 => self.transact(id).await,
            _ => self.send(id).await,
        }
    }

    fn shard(&self, id: PartitionId) -> usize {
        shard_of(id, self.opened.stores.len())
    }

    async fn send(&mut self, id: PartitionId) -> Result<(), String> {
        let world = &mut *self.world;
        let (producer, sequence, _) = self.producers.entry(id).or_insert_with(|| {
            world.next_producer += 1;
            (world.next_producer, 0, None)
        });
        let (producer, sequence) = (*producer, *sequence);
        let count = 1 + self.random.below(4) as i32;
        let size = self.scale.payload(self.random);
        let batch = batch(producer, sequence, count, size, self.random);
        self.producers.insert(id, (producer, sequence + count, Some(batch.clone())));
        let store = self.opened.stores[self.shard(id)].clone();
        store.room(batch.len()).await;
        let replica = self.replicas.borrow()[&id].clone();
        let submitted = self.now();
        let appended = replica
            .append(&store, sound(&replica, batch.clone()), rt::wall(), None)
            .map_err(|e| format!("{id}: an append was refused: {e}"))?;
        self.note(id, batch, appended, submitted);
        Ok(())
    }

    /// A batch was appended.
    fn note(&mut self, id: PartitionId, mut bytes: BytesMut, appended: Appended, submitted: usize) {
        let epoch = self.replicas.borrow()[&id].leader_epoch();
        weir::wire::batch::stamp(&mut bytes, appended.base_offset.0, epoch.0);
        let header = BatchHeader::parse(&bytes).expect("a batch");
        let partition = self.world.partitions.entry(id).or_default();
        partition.entries.push(Entry {
            header,
            bytes: bytes.freeze(),
            submitted,
            acked: NEVER,
            cut: NEVER,
            dropped: NEVER,
        });
        let shard = shard_of(id, self.opened.stores.len());
        let lsn = self.opened.stores[shard].journal().last();
        self.waiting.push((shard, lsn, id, partition.entries.len() - 1));
    }

    /// Goes on with one of the partition's transactions, or ends it.
    async fn transact(&mut self, id: PartitionId) -> Result<(), String> {
        let slot = self.random.below(3);
        let world = &mut *self.world;
        let producers = self.transactional.entry(id).or_insert_with(|| {
            [(); 3].map(|()| {
                world.next_producer += 1;
                (world.next_producer, 0, false)
            })
        });
        let (producer, sequence, open) = producers[slot];
        let ends = open && self.random.chance(60);
        let marker = EndMarker { commit: self.random.chance(50), coordinator_epoch: 0 };
        let count = 1 + self.random.below(3) as i32;
        let now = rt::wall();
        let bytes = match ends {
            true => control::encode(marker, Producer::new(producer, 0), now),
            false => {
                let size = self.scale.payload(self.random);
                transactional(batch(producer, sequence, count, size, self.random))
            }
        };
        producers[slot] = if ends { (producer, sequence, false) } else { (producer, sequence + count, true) };
        let store = self.opened.stores[self.shard(id)].clone();
        store.room(bytes.len()).await;
        let replica = self.replicas.borrow()[&id].clone();
        let submitted = self.now();
        let appended = match ends {
            true => {
                let end = EndOfTxn { producer: Producer::new(producer, 0), marker, version: 1 };
                replica.append_end(&store, end, now)
            }
            false => replica.append_internal(&store, bytes.clone(), now),
        };
        let appended = appended.map_err(|e| format!("{id}: a transaction's batch was refused: {e}"))?;
        self.note(id, bytes, appended, submitted);
        Ok(())
    }

    /// A retry is answered with the offset of the first time.
    async fn send_again(&mut self, id: PartitionId) -> Result<(), String> {
        let Some((_, _, Some(batch))) = self.producers.get(&id).cloned() else { return Ok(()) };
        let store = self.opened.stores[self.shard(id)].clone();
        store.room(batch.len()).await;
        let replica = self.replicas.borrow()[&id].clone();
        let end = replica.offsets().end().0;
        let appended = replica
            .append(&store, sound(&replica, batch), rt::wall(), None)
            .map_err(|e| format!("{id}: a retry was refused: {e}"))?;
        let (producer, ..) = self.producers[&id];
        let mut entries = self.world.partitions[&id].entries.iter().rev();
        let first = entries.find(|e| e.header.producer_id == producer).map(|e| e.header.base_offset);
        match Some(appended.base_offset.0) == first && replica.offsets().end().0 == end {
            true => Ok(()),
            false => Err(format!("{id}: a retry of {first:?} was put at {}", appended.base_offset)),
        }
    }

    async fn wait(&mut self, id: PartitionId) -> Result<(), String> {
        let store = self.opened.stores[self.shard(id)].clone();
        let last = store.journal().last();
        store.journal().wait_durable(last).await.map_err(|e| e.to_string())
    }

    async fn flush(&mut self, id: PartitionId) -> Result<(), String> {
        let log = self.opened.stores[self.shard(id)].get(id).expect("it has a replica");
        let flushed = if self.random.chance(50) { log.flush(None).await } else { log.write(None).await };
        flushed.map_err(|e| format!("{id}: flush: {e}"))
    }

    async fn delete_records(&mut self, id: PartitionId) -> Result<(), String> {
        self.wait(id).await?;
        self.observe();
        let replica = self.replicas.borrow()[&id].clone();
        let (start, end) = (replica.offsets().log_start().0, replica.offsets().high_watermark().0);
        let to = start + self.random.below((end - start) as usize + 1) as i64;
        replica.delete_records(Some(Offset(to))).map_err(|e| format!("{id}: delete: {e}"))?;
        let replicas = self.replicas.clone();
        let state = |id| replicas.borrow().get(&id).and_then(|r: &Rc<Replica>| r.producer_snapshot());
        self.opened.stores[self.shard(id)].checkpoint(state).await.map_err(|e| format!("checkpoint: {e}"))?;
        let now = self.now();
        self.world.partitions.entry(id).or_default().deleted.push((now, to));
        Ok(())
    }

    /// Has the controller commit a change, and notes between which moments.
    fn commit(&mut self, request: ControlRequest) -> ControlReply {
        let begun = self.now();
        let before = self.opened.controller.image();
        let reply = self.opened.controller.handle(&request);
        let image = self.opened.controller.image();
        if image.version != before.version {
            for topic in image.topics().filter(|t| before.topic_by_id(t.id).is_none()) {
                self.world.ever.push(topic.id);
            }
            let state = Metadata::of(&image, &self.world.ever);
            let done = self.now();
            self.world.metadata.push(MetadataState { begun, done, state });
        }
        reply
    }

    fn create_topic(&mut self) -> Result<(), String> {
        let name = TOPICS[self.random.below(TOPICS.len())];
        let policy = ["delete", "compact", "compact", "compact,delete"][self.random.below(4)];
        let least = if policy == "delete" { 20 } else { 5 };
        let configs = [
            ("internal.segment.bytes", (least + self.random.below(30)) * 1024 * self.unit()),
            ("retention.bytes", self.retained(40, 400)),
            ("file.delete.delay.ms", self.random.below(6)),
            ("delete.retention.ms", self.random.below(2) * 20),
        ];
        let policies = [("cleanup.policy", policy), ("min.cleanable.dirty.ratio", "0.01")];
        let configs = configs.map(|(name, value)| (name.to_owned(), Some(value.to_string())));
        let policies = policies.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        let partitions = 1 + self.random.below(3) as i32;
        let configs = configs.into_iter().chain(policies).collect();
        let topic = NewTopic { partitions, configs, ..NewTopic::named(name) };
        self.commit(ControlRequest::CreateTopics { topics: vec![topic], validate_only: false });
        self.take_up();
        Ok(())
    }

    /// KiB that retention leaves; now and then nothing, which empties the log.
    fn retained(&mut self, least: usize, more: usize) -> usize {
        if self.random.chance(10) { 0 } else { (least + self.random.below(more)) * 1024 * self.unit() }
    }

    fn unit(&self) -> usize {
        if self.scale.large { 40 } else { 1 }
    }

    fn topic_name(&self, id: PartitionId) -> Option<String> {
        Some(self.opened.controller.image().topic_by_id(id.topic)?.name.to_string())
    }

    fn grow_topic(&mut self, id: PartitionId) -> Result<(), String> {
        let image = self.opened.controller.image();
        let Some(topic) = image.topic_by_id(id.topic).filter(|t| t.partitions.len() < 5) else {
            return Ok(());
        };
        let total = topic.partitions.len() as i32 + 1;
        let new = NewPartitions { topic: topic.name.to_string(), total, assignments: None };
        self.commit(ControlRequest::CreatePartitions { topics: vec![new], validate_only: false });
        self.take_up();
        Ok(())
    }

    fn configure(&mut self, id: PartitionId) -> Result<(), String> {
        let Some(name) = self.topic_name(id) else { return Ok(()) };
        let bytes = self.retained(30, 200);
        let change = ConfigChange { name: "retention.bytes".into(), op: ConfigOp::Set(bytes.to_string()) };
        let resources = vec![(ConfigResource::Topic(name), vec![change])];
        self.commit(ControlRequest::IncrementalAlterConfigs { resources, validate_only: false });
        self.take_up();
        Ok(())
    }

    fn allocate_producers(&mut self) -> Result<(), String> {
        let (broker, registered) = (1, self.opened.controller.image());
        let epoch = registered.broker(broker).expect("this broker").epoch;
        self.commit(ControlRequest::ProducerIds { broker, epoch });
        Ok(())
    }

    async fn delete_topic(&mut self, id: PartitionId) -> Result<(), String> {
        self.commit(ControlRequest::DeleteTopics { topics: vec![TopicRef::Id(id.topic)] });
        let gone: Vec<PartitionId> =
            self.replicas.borrow().keys().copied().filter(|other| other.topic == id.topic).collect();
        for id in gone {
            let replica = self.replicas.borrow_mut().remove(&id);
            replica.iter().for_each(|r| r.retire());
            self.opened.stores[self.shard(id)].remove(id).await;
            self.producers.remove(&id);
            self.transactional.remove(&id);
        }
        for store in self.opened.stores.clone() {
            store.removals_durable().await;
        }
        Ok(())
    }

    /// What a shard does with a new image.
    fn take_up(&mut self) {
        let image = self.opened.controller.image();
        for (id, log) in self.opened.logs(&image) {
            let Some(topic) = image.topic_by_id(id.topic) else { continue };
            if &*topic.name == COPIES {
                self.copies.insert(id, log);
                continue;
            }
            let known = self.replicas.borrow().get(&id).cloned();
            match known {
                Some(replica) => replica.set_config(check::config_of(&image, topic)),
                None => {
                    let replica = leader(&self.opened, &image, topic, id, log);
                    self.replicas.borrow_mut().insert(id, Rc::new(replica));
                }
            }
        }
    }
}

fn leader(opened: &Opened, image: &Image, topic: &Topic, id: PartitionId, log: Rc<PartitionLog>) -> Replica {
    let epoch = topic.partition(id.index).map_or(LeaderEpoch::ZERO, |p| p.leader_epoch);
    let replica = Replica::new(
        (id, topic.name.clone()),
        &Host::new(1, 30_000),
        log,
        check::config_of(image, topic),
        Offset::ZERO,
    );
    let store = &opened.stores[shard_of(id, opened.stores.len())];
    replica.assign(store, Assignment::alone(1, epoch), MonoMs::ZERO);
    replica
}

/// The same as part of a transaction.
pub fn transactional(mut batch: BytesMut) -> BytesMut {
    const ATTRIBUTES: usize = 21;
    batch[ATTRIBUTES + 1] |= 0x10;
    weir::wire::batch::seal(&mut batch);
    batch
}

/// A batch as a producer sends it.
pub fn batch(producer: i64, sequence: i32, count: i32, size: usize, random: &mut Random) -> BytesMut {
    let now = rt::unix_ms();
    let record = |offset_delta: i32, random: &mut Random| {
        let seed = random.next();
        let len = size / count as usize;
        let value: Vec<u8> =
            (0..len as u64).map(|i| ((seed ^ i.wrapping_mul(seed | 1)) >> 13) as u8).collect();
        WireRecord {
            attributes: 0,
            timestamp_delta: 0,
            offset_delta,
            key: Some(format!("key {}", seed % 16).into_bytes().into()),
            value: (seed >> 32 & 7 != 0).then(|| value.into()),
            headers: Vec::new(),
        }
    };
    let batch = RecordBatch {
        base_offset: 0,
        last_offset_delta: count - 1,
        partition_leader_epoch: -1,
        compression: Compression::None,
        timestamp_type: TimestampType::CreateTime,
        is_transactional: false,
        is_control: false,
        has_delete_horizon: false,
        base_timestamp: now,
        max_timestamp: now,
        producer_id: producer,
        producer_epoch: 0,
        base_sequence: sequence,
        records: (0..count).map(|i| record(i, random)).collect(),
    };
    let bytes = batch.encode_to_bytes(RecordEncodeLimits::default()).expect("a sound batch");
    BytesMut::from(&bytes[..])
}
