//! Bad sectors: each 512 bytes of a data directory flipped, zeroed, cut off, or another sector's, one at a time. What can
//! be rebuilt is; what cannot is an error that names the file, never wrong bytes; everything else is served.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use weir::controller::{ControlRequest, Desk, NewTopic};
use weir::log::{LogSettings, Mending, PartitionLog};
use weir::metadata::Resolver;
use weir::model::{BrokerSettings, LeaderEpoch, MonoMs, Offset, PartitionId, Producer, ProducerId, shard_of};
use weir::partition::recovered_producers;
use weir::partition::{Assignment, EndOfTxn, Host, Replica};
use weir::rt;
use weir::shard::topics::View;
use weir::wire::batch::BatchHeader;
use weir::wire::control::{self, EndMarker};

use crate::check;
use crate::disk::{self, Image, SECTOR};
use crate::drive;
use crate::images::scratch;
use crate::random::Random;
use crate::world::Metadata;

const SHARDS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    Flip,
    Zero,
    Truncate,
    Misdirect,
}

/// A data directory with every kind of file, and what has to be in it.
pub struct Subject {
    image: Image,
    metadata: Metadata,
    batches: Batches,
    topics: BTreeMap<PartitionId, String>,
    /// Partitions whose last batch is in the journal's last commit: nothing proves that it was acknowledged.
    unproven: BTreeMap<PartitionId, i64>,
    /// What a reader of committed data skips in each log.
    aborted: BTreeMap<PartitionId, Vec<(ProducerId, Offset)>>,
}

fn settings() -> LogSettings {
    LogSettings {
        journal_file_bytes: 512 << 10,
        journal_max_files: 16,
        max_commit_bytes: 64 << 10,
        zero_ahead_bytes: 64 << 10,
        flush_chunk_bytes: 128 << 10,
        bypass_bytes: 2000,
        tail_bytes: 16 << 20,
        cache_bytes: 64 << 10,
        retention_interval: Duration::from_secs(3600),
        checkpoint_interval: Duration::from_secs(3600),
        ..LogSettings::default()
    }
}

/// Makes the directory: topics with sealed segments large and small, an active one, and a journal that is needed.
pub fn subject() -> Subject {
    let dir = scratch();
    let path = dir.path().to_owned();
    let subject = rt::block_on(async move { fill(&path).await });
    Subject { image: read_image(dir.path()).expect("the directory is read"), ..subject }
}

/// What each partition was given.
type Batches = BTreeMap<PartitionId, Vec<(BatchHeader, Vec<u8>)>>;

async fn fill(dir: &Path) -> Subject {
    let mut opened = check::open(dir, SHARDS, &settings()).await.expect("an empty directory opens");
    for (name, segment) in [("cold", 1_200_000), ("warm", 60_000)] {
        let configs = vec![("internal.segment.bytes".to_owned(), Some(segment.to_string()))];
        let topic = NewTopic { partitions: 2, configs, ..NewTopic::named(name) };
        let request = ControlRequest::CreateTopics { topics: vec![topic], validate_only: false };
        opened.controller.handle(&request);
    }
    let image = opened.controller.image();
    let mut random = Random::new(7);
    let (mut batches, mut topics, mut replicas): (Batches, BTreeMap<_, _>, Vec<_>) = Default::default();
    for (id, log) in opened.logs(&image) {
        let topic = image.topic_by_id(id.topic).expect("just made");
        topics.insert(id, format!("{}-{}", topic.name, id.index));
        let replica = Replica::new(
            (id, topic.name.clone()),
            &Host::new(1, 30_000),
            log,
            check::config_of(&image, topic),
            Offset::ZERO,
        );
        let store = &opened.stores[shard_of(id, opened.stores.len())];
        replica.assign(store, Assignment::alone(1, LeaderEpoch(0)), MonoMs::ZERO);
        replicas.push(replica);
        batches.insert(id, Vec::new());
    }
    // What half of the partitions are given goes straight to segments.
    let bypassing = opened.stores[0].clone();
    rt::spawn(async move { bypassing.maintain(|_| None, |_| Offset(i64::MAX)).await });
    rt::yield_now().await;
    // Each round fits into the journal, which nobody empties meanwhile.
    for (count, flushed) in [(12, true), (12, true), (12, true), (8, true), (8, false)] {
        for _ in 0..count {
            for replica in &replicas {
                let cold = &*replica.topic == "cold";
                let size = if cold && flushed { 50_000 } else { 400 + random.below(3000) };
                let store = &opened.stores[shard_of(replica.id, SHARDS)];
                let own = |(header, _): &&(BatchHeader, Vec<u8>)| !header.is_transactional();
                let sequence = batches[&replica.id].iter().filter(own).count() as i32;
                let batch = drive::batch(i64::from(replica.id.index) + 1, sequence, 1, size, &mut random);
                let _ = append(store, replica, batch, &mut batches).await;
            }
        }
        for replica in &replicas {
            let store = &opened.stores[shard_of(replica.id, SHARDS)];
            transact(store, replica, &mut random, &mut batches).await;
        }
        for replica in &replicas {
            let store = &opened.stores[shard_of(replica.id, SHARDS)];
            let last = store.journal().last();
            store.journal().wait_durable(last).await.expect("the disk works");
            if flushed {
                store.get(replica.id).expect("a log").flush(None).await.expect("the disk works");
            }
        }
        for store in opened.stores.iter().filter(|_| flushed) {
            let replica = |id| replicas.iter().find(move |r: &&Replica| r.id == id);
            let state = |id| replica(id).and_then(|r| r.producer_snapshot());
            store.checkpoint(state).await.expect("the disk works");
        }
    }
    let mut unproven = BTreeMap::new();
    for store in &opened.stores {
        let Some(replica) =
            replicas.iter().find(|r| Rc::ptr_eq(&opened.stores[shard_of(r.id, SHARDS)], store))
        else {
            continue;
        };
        let batch = drive::batch(99, 0, 1, 300, &mut random);
        unproven.insert(replica.id, append(store, replica, batch, &mut batches).await);
    }
    assert!(opened.stores[0].bypass_bytes() > 0, "some went straight to segments");
    let metadata = Metadata::of(&image, &[]);
    let aborted = replicas.iter().map(|r| (r.id, r.aborted_in(Offset::ZERO, r.offsets().end()))).collect();
    opened.end().await;
    Subject { image: Image::new(), metadata, batches, topics, unproven, aborted }
}

/// A transaction that is aborted, and the first batch of one that stays open, in front of it.
async fn transact(
    store: &weir::log::ShardLog,
    replica: &Replica,
    random: &mut Random,
    batches: &mut Batches,
) {
    let producer = 1000 + replica.offsets().end().0;
    for (producer, ends) in [(producer, false), (producer + 1, true)] {
        let batch = drive::transactional(drive::batch(producer, 0, 2, 200, random));
        store.room(batch.len()).await;
        let appended = replica.append_internal(store, batch.clone(), rt::wall()).expect("a sound batch");
        keep(replica, batch, appended.base_offset.0, batches);
        if ends {
            let (now, marker) = (rt::wall(), EndMarker { commit: false, coordinator_epoch: 0 });
            let end = EndOfTxn { producer: Producer::new(producer, 0), marker, version: 1 };
            let appended = replica.append_end(store, end, now).expect("a transaction to end");
            keep(
                replica,
                control::encode(marker, Producer::new(producer, 0), now),
                appended.base_offset.0,
                batches,
            );
        }
    }
}

async fn append(
    store: &weir::log::ShardLog,
    replica: &Replica,
    batch: bytes::BytesMut,
    batches: &mut Batches,
) -> i64 {
    store.room(batch.len()).await;
    let appended =
        replica.append(store, drive::sound(replica, batch.clone()), rt::wall(), None).expect("a sound batch");
    keep(replica, batch, appended.base_offset.0, batches);
    appended.base_offset.0
}

fn keep(replica: &Replica, mut bytes: bytes::BytesMut, base_offset: i64, batches: &mut Batches) {
    weir::wire::batch::stamp(&mut bytes, base_offset, replica.leader_epoch().0);
    let header = BatchHeader::parse(&bytes).expect("a batch");
    batches.get_mut(&replica.id).expect("known").push((header, bytes.to_vec()));
}

fn read_image(dir: &Path) -> std::io::Result<Image> {
    fn walk(root: &Path, dir: &Path, image: &mut Image) -> std::io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let relative = path.strip_prefix(root).expect("below the root").to_owned();
            if path.is_dir() {
                image.insert(relative, None);
                walk(root, &path, image)?;
            } else {
                image.insert(relative, Some(std::fs::read(&path)?));
            }
        }
        Ok(())
    }
    let mut image = Image::new();
    walk(dir, dir, &mut image)?;
    Ok(image)
}

impl Subject {
    /// Every sector of every file that has content.
    pub fn sectors(&self) -> Vec<(PathBuf, usize)> {
        let files = self.image.iter().filter_map(|(path, content)| Some((path, content.as_ref()?)));
        files.flat_map(|(path, c)| (0..c.len().div_ceil(SECTOR)).map(|s| (path.clone(), s))).collect()
    }

    /// The kinds of files there are, for a test that none is missing.
    pub fn kinds(&self) -> Vec<String> {
        let name = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.rsplit_once('.').map_or(name.clone(), |(_, extension)| extension.to_owned())
        };
        let mut kinds: Vec<String> =
            self.image.iter().filter(|(_, c)| c.is_some()).map(|(p, _)| name(p)).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// The directory with one sector harmed; none where that changes nothing.
    fn harmed(&self, path: &Path, sector: usize, harm: Harm, random: &mut Random) -> Option<Image> {
        let mut image = self.image.clone();
        let others: Vec<&Vec<u8>> = self.image.values().flatten().filter(|c| c.len() >= SECTOR).collect();
        let bytes = image.get_mut(path)?.as_mut()?;
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(bytes.len());
        let before = bytes[range.clone()].to_vec();
        match harm {
            Harm::Flip => bytes[range.start + random.below(range.len())] ^= 1 << random.below(8),
            Harm::Zero => bytes[range.clone()].fill(0),
            Harm::Truncate => {
                bytes.truncate(range.start);
                return Some(image);
            }
            Harm::Misdirect => {
                // From the same file mostly: that is what looks most like what should be there.
                let own = self.image[path].as_ref()?;
                let from = if random.chance(70) && own.len() >= SECTOR {
                    own
                } else {
                    others[random.below(others.len())]
                };
                let at = random.below(from.len() / SECTOR) * SECTOR;
                let len = range.len();
                bytes[range.clone()].copy_from_slice(&from[at..at + len]);
            }
        }
        (image[path].as_ref()?[range] != before).then_some(image)
    }

    /// Takes all checkpoints away and has the directory mended: everything is there as before.
    pub async fn without_checkpoints(&self, dir: &Path) -> Result<(), String> {
        let mut image = self.image.clone();
        image.retain(|path, _| !path.to_string_lossy().contains("checkpoint"));
        disk::write_image(&image, dir).expect("the image is written");
        let refused = check::open(dir, SHARDS, &settings()).await;
        if !refused.is_err_and(|e| e.contains("no checkpoint")) {
            return Err("a start without checkpoints is not refused".into());
        }
        let controller = Desk::open(&dir.join("meta"), &BrokerSettings::default());
        let image = controller.map_err(|e| e.to_string())?.image();
        let partitions: Vec<PartitionId> = self.topics.keys().copied().collect();
        let settings = settings();
        let resolver = Resolver::new(&BrokerSettings::default());
        let topics = View { image: &image, resolver: &resolver, of: None, follows: false };
        let mending =
            Mending { data_dir: dir, topics: &topics, partitions: &partitions, settings: &settings };
        for shard in 0..SHARDS {
            let producers = |p: &_| Some(recovered_producers(p).snapshot());
            mending.shard(shard, SHARDS, producers).await.map_err(|e| e.to_string())?;
        }
        self.judge(dir, Path::new("nothing")).await
    }

    /// Harms one sector and opens what is left; an error is a violation.
    pub async fn try_one(
        &self,
        dir: &Path,
        path: &Path,
        sector: usize,
        harm: Harm,
        random: &mut Random,
    ) -> Result<bool, String> {
        let Some(image) = self.harmed(path, sector, harm, random) else { return Ok(false) };
        let dir = dir.join("harmed");
        std::fs::create_dir(&dir)
            .and_then(|()| disk::write_image(&image, &dir))
            .expect("the image is written");
        let outcome = self.judge(&dir, path).await;
        std::fs::remove_dir_all(&dir).or_else(|_| std::fs::remove_dir_all(&dir)).expect("the image goes");
        outcome.map(|()| true).map_err(|e| format!("{} sector {sector} {harm:?}: {e}", path.display()))
    }

    async fn judge(&self, dir: &Path, harmed: &Path) -> Result<(), String> {
        let name = harmed.to_string_lossy().into_owned();
        let opened = match check::open(dir, SHARDS, &settings()).await {
            Ok(opened) => opened,
            Err(e) if name.starts_with("meta/") && e.contains(&name) => return Ok(()),
            Err(e) => return Err(e),
        };
        let judged = self.judge_opened(&opened, &name).await;
        let damaged: usize = opened.stores.iter().map(|s| s.damaged().len()).sum();
        if judged.as_ref().is_ok_and(|errors| *errors > 0) {
            // What cannot be read is known, and still is after the next start.
            if damaged == 0 {
                return Err("a reader got an error, and no range is marked".into());
            }
            for store in &opened.stores {
                store.checkpoint(|_| None).await.map_err(|e| e.to_string())?;
            }
            opened.end().await;
            let again = check::open(dir, SHARDS, &settings()).await?;
            let still: usize = again.stores.iter().map(|s| s.damaged().len()).sum();
            again.end().await;
            if still != damaged {
                return Err(format!("{damaged} partitions had damage, {still} after the next start"));
            }
            return Ok(());
        }
        opened.end().await;
        judged.map(drop)
    }

    /// How many reads failed where they may.
    async fn judge_opened(&self, opened: &check::Opened, harmed: &str) -> Result<usize, String> {
        let image = opened.controller.image();
        if Metadata::of(&image, &[]) != self.metadata {
            return Err("the metadata changed".into());
        }
        let mut errors = 0;
        for (id, log) in opened.logs(&image) {
            let dir = format!("topics/{}/", self.topics[&id]);
            let repair = opened.recovered.get(&id).and_then(|r| r.repair.clone());
            if let Some(why) = repair {
                match harmed.starts_with("journal/") && why.contains("journal/") {
                    true => continue,
                    false => return Err(format!("{id} is marked for repair: {why}")),
                }
            }
            let producers = opened.recovered.get(&id).map(recovered_producers).unwrap_or_default();
            let aborted = producers.transactions().aborted_in(Offset::ZERO, log.end_offset());
            if aborted != self.aborted[&id] {
                return Err(format!("{dir}: aborted are {:?}, not {aborted:?}", self.aborted[&id]));
            }
            let own = harmed.starts_with(&dir);
            errors += self.read_all(id, &log, own).await.map_err(|e| format!("{dir}: {e}"))?;
        }
        for store in &opened.stores {
            store.scrub_all().await;
        }
        Ok(errors)
    }

    /// Reads a whole log; every batch is what was written, or an error where `harmed` says that there may be one.
    async fn read_all(&self, id: PartitionId, log: &PartitionLog, harmed: bool) -> Result<usize, String> {
        let batches = &self.batches[&id];
        let end = batches.last().map_or(0, |(h, _)| h.next_offset());
        let least = self.unproven.get(&id).copied().unwrap_or(end);
        if log.start_offset().0 != 0 || log.end_offset().0 < least || log.end_offset().0 > end {
            return Err(format!("the log is {}..{}, not 0..{end}", log.start_offset().0, log.end_offset().0));
        }
        let (mut at, mut errors) = (0, 0);
        while at < batches.len() && batches[at].0.base_offset < log.end_offset().0 {
            let from = batches[at].0.base_offset;
            let slices = match log.read(Offset(from), log.end_offset(), 1 << 20, true).await {
                Ok(slices) if slices.is_empty() => return Err(format!("nothing at {from}, and no error")),
                Ok(slices) => slices,
                Err(e) if harmed => {
                    let text = e.to_string();
                    if !text.contains("topics/") {
                        return Err(format!("the error names no file: {text}"));
                    }
                    errors += 1;
                    at += 1;
                    continue;
                }
                Err(e) => return Err(format!("reading {from}: {e}")),
            };
            for byte in slices.iter().map(|s| &s[..]) {
                let mut rest = byte;
                while !rest.is_empty() {
                    let Some((_, expected)) = batches.get(at) else {
                        return Err("more than was written".into());
                    };
                    if !rest.starts_with(expected) {
                        return Err(format!("wrong bytes for the batch at {}", batches[at].0.base_offset));
                    }
                    rest = &rest[expected.len()..];
                    at += 1;
                }
            }
        }
        Ok(errors)
    }
}

/// Harms these sectors, each in every way; how many harms were tried. Panics with all violations.
pub fn sweep(subject: Subject, sectors: Vec<(PathBuf, usize)>, seed: u64) -> usize {
    rt::block_on(async move {
        let dir = scratch();
        let mut random = Random::new(seed);
        let (mut tried, mut violations) = (0, Vec::new());
        for (path, sector) in sectors {
            for harm in [Harm::Flip, Harm::Zero, Harm::Truncate, Harm::Misdirect] {
                match subject.try_one(dir.path(), &path, sector, harm, &mut random).await {
                    Ok(done) => tried += usize::from(done),
                    Err(e) => {
                        // A whole sweep is long.
                        println!("{e}");
                        violations.push(e);
                    }
                }
            }
        }
        let few: Vec<&String> = violations.iter().take(40).collect();
        assert!(violations.is_empty(), "{} violations of {tried}:\n{few:#?}", violations.len());
        tried
    })
}

/// See [`Subject::without_checkpoints`].
pub fn without_checkpoints(subject: Subject) {
    rt::block_on(async move {
        let dir = scratch();
        subject.without_checkpoints(dir.path()).await.expect("all of it is there");
    });
}
