//! Making a shard's log whole again by an operator's word: what is lost is given up, so that the rest is served.
//!
//! 0. Journals that do not belong here go to `set-aside/`. A checkpoint that cannot be read, or is not there, is made of
//!    what the segments and the journal say. Directories in a partition's way go to `set-aside/`; a partition that has
//!    nothing takes in the segments in its directory, or the directory of it that was set aside.
//! 1. The real recovery runs: what cannot follow on goes to `set-aside/`, what lost something is marked.
//! 2. Of a marked partition, what is set aside comes back behind an empty batch for what is missing; so does an end that
//!    was promised. No offset is given out twice.
//! 3. Damaged segments are sealed, a checkpoint says so, then they are written anew without what is damaged.
//! 4. The marks go, and the shard is closed, so that its checkpoint says what there is.
//!
//! What is taken away is kept in `set-aside/`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;

use crate::log::directory::holdings::{holdings, seen};
use crate::log::directory::{Objection, Topics};
use crate::log::files::layout::{SET_ASIDE, finish_interrupted, journal_dir, partition_dir};
use crate::log::files::names::is_log_name;
use crate::log::files::owner::{Owner, foreign, make_directory, owner};
use crate::log::formats::checkpoint::{Checkpoint, PartitionState};
use crate::log::journal::{inspect, is_journal_file, survivors};
use crate::log::shard_log::{LogSettings, RecoveredPartition, ShardLog};
use crate::log::{LogError, Lsn, PartitionLog, Resources};
use crate::model::{Offset, PartitionId, shard_of};
use crate::rt;
use crate::wire::batch::{self, BatchHeader, BatchIter};
use crate::wire::control;
use crate::wire::records::empty_batch;

use super::set_aside::{end_of, set_aside};

/// What was done, and to which partition, if to one.
#[derive(Clone, Debug)]
pub struct Mended {
    pub id: Option<PartitionId>,
    pub what: String,
}

/// A data directory to be mended; nobody else has it.
pub struct Mending<'a> {
    pub data_dir: &'a Path,
    pub topics: &'a dyn Topics,
    /// Every partition that the metadata has.
    pub partitions: &'a [PartitionId],
    pub settings: &'a LogSettings,
}

impl Mending<'_> {
    /// Mends every shard, after what does not belong together was put right.
    pub async fn all(
        &self,
        objections: &[Objection],
        producers: impl Fn(&RecoveredPartition) -> Option<Vec<u8>>,
    ) -> Result<Vec<Mended>, LogError> {
        let (shards, mut mended) = self.prepare(objections)?;
        for shard in 0..shards {
            mended.extend(self.shard(shard, shards, &producers).await?);
        }
        Ok(mended)
    }

    /// Moves journals away that do not belong here. How many shards there are.
    fn prepare(&self, objections: &[Objection]) -> Result<(usize, Vec<Mended>), LogError> {
        finish_interrupted(self.data_dir)?;
        let held = holdings(self.data_dir)?;
        let mut mended = Vec::new();
        for objection in objections {
            use Objection::*;
            if let ForeignJournal { shard, .. } | MisplacedJournal { shard, .. } | OldJournal { shard, .. } =
                objection
            {
                let dir = journal_dir(self.data_dir, *shard);
                if !rt::fs::exists(&dir) {
                    continue;
                }
                let to = self.put_away(&dir, &format!("journal-{shard}-"))?;
                mended.push(Mended { id: None, what: format!("journal/{shard} is {} now", to.display()) });
            }
        }
        let known = held.shards().unwrap_or(held.journals.len().max(held.seen.len()));
        Ok((known.max(1), mended))
    }

    /// Moves a directory to `set-aside/`, under the time and, if `prefix` is empty, its own name.
    fn put_away(&self, dir: &Path, prefix: &str) -> Result<PathBuf, LogError> {
        let io = |e| LogError::io(dir, e);
        let mut to = self.data_dir.join(SET_ASIDE);
        match prefix {
            "" => to.extend([rt::unix_ms().to_string().as_ref(), dir.file_name().unwrap_or_default()]),
            prefix => to.push(format!("{prefix}{}", rt::unix_ms())),
        }
        rt::fs::create_dir_all_durable(to.parent().unwrap_or(&to)).map_err(io)?;
        rt::fs::rename(dir, &to).map_err(io)?;
        for parent in [dir.parent(), to.parent()].into_iter().flatten() {
            rt::fs::sync_dir(parent).map_err(io)?;
        }
        Ok(to)
    }

    /// Mends one of `shards` shards. `producers` is as for [`super::relayout()`].
    pub async fn shard(
        &self,
        shard: usize,
        shards: usize,
        producers: impl Fn(&RecoveredPartition) -> Option<Vec<u8>>,
    ) -> Result<Vec<Mended>, LogError> {
        let dir = journal_dir(self.data_dir, shard);
        let mut mended = Vec::new();
        let mut checkpoint = match Checkpoint::load(&dir) {
            Ok(Some(loaded)) => loaded.checkpoint,
            Ok(None) | Err(LogError::Corrupt { .. }) => {
                let made = self.make_checkpoint(shard, shards, &producers)?;
                rt::fs::create_dir_all_durable(&dir).map_err(|e| LogError::io(&dir, e))?;
                made.store(&dir).await?;
                let what =
                    format!("shard {shard}: the checkpoint was made again of the segments and the journal");
                mended.push(Mended { id: None, what });
                made
            }
            Err(e) => return Err(e),
        };
        let settled = self.settle(&mut checkpoint, &producers)?;
        if !settled.is_empty() {
            checkpoint.store(&dir).await?;
            mended.extend(settled);
        }
        let promised: HashMap<PartitionId, i64> =
            checkpoint.partitions.iter().map(|state| (state.id, state.end_offset)).collect();
        let shards = checkpoint.shards as usize;
        let (store, mut recovered) =
            ShardLog::open(self.data_dir, shard, shards, self.topics, self.settings.clone()).await?;
        let aside = self.data_dir.join(SET_ASIDE);
        for partition in &mut recovered {
            let id = partition.id;
            let from = aside.join(id.to_string());
            let Some(why) = partition.repair.clone() else {
                let end = partition.log.end_offset().0;
                if end_of(&from)? > end {
                    let what = bring_back(partition, end, &from, store.journal().last()).await?;
                    mended.push(Mended { id: Some(id), what });
                }
                continue;
            };
            if store.is_frozen(id) {
                mended.push(Mended { id: Some(id), what: format!("cannot be mended: {why}") });
                continue;
            }
            let promised = promised.get(&id).copied().unwrap_or(0);
            let what = bring_back(partition, promised, &from, store.journal().last()).await?;
            mended.push(Mended { id: Some(id), what: format!("{what} ({why})") });
        }
        let states: HashMap<_, _> =
            recovered.iter().filter_map(|p| Some((p.id, (p.log.end_offset(), producers(p)?)))).collect();
        let state = |id| states.get(&id).cloned();
        let logs: Vec<_> =
            recovered.iter().filter(|p| !store.is_frozen(p.id)).map(|p| p.log.clone()).collect();
        mended.extend(take_out(&store, logs, &aside, &state).await?);
        store.clear_marks();
        store.close(state).await?;
        Ok(mended)
    }

    /// The checkpoint of a shard that has none that can be read: all that the files say.
    fn make_checkpoint(
        &self,
        shard: usize,
        shards: usize,
        producers: &impl Fn(&RecoveredPartition) -> Option<Vec<u8>>,
    ) -> Result<Checkpoint, LogError> {
        let known = survivors(&journal_dir(self.data_dir, shard))?;
        let mut checkpoint = Checkpoint {
            floor: known.floor,
            generation: known.generation,
            origin: Some(self.topics.origin()),
            number: seen(self.data_dir)?.get(&shard).map_or(1, |seen| seen + 1),
            ..Checkpoint::empty(shard, shards, known.salt.unwrap_or_default())
        };
        let resources = Resources::new(self.settings.cache_bytes);
        for id in self.partitions.iter().copied().filter(|id| shard_of(*id, shards) == shard) {
            checkpoint.partitions.extend(self.scan(id, &resources, producers)?);
        }
        Ok(checkpoint)
    }

    /// What a partition's segments say, if it has a directory of its own.
    fn scan(
        &self,
        id: PartitionId,
        resources: &Rc<Resources>,
        producers: &impl Fn(&RecoveredPartition) -> Option<Vec<u8>>,
    ) -> Result<Option<PartitionState>, LogError> {
        let Some((topic, config)) = self.topics.partition(id) else { return Ok(None) };
        let dir = partition_dir(self.data_dir, &topic, id.index);
        if !rt::fs::exists(&dir) || foreign(&dir, id.topic).map_err(|e| LogError::io(&dir, e))?.is_some() {
            return Ok(None);
        }
        let (log, replayed) = PartitionLog::open_unknown(dir, id, config, resources)?;
        let (state, end) = (log.checkpoint(), log.end_offset().0);
        let (producer_state, high_watermark) = (None, Offset(end));
        let found = RecoveredPartition { id, log, producer_state, replayed, high_watermark, repair: None };
        Ok(Some(PartitionState {
            log: state,
            end_offset: end,
            high_watermark: end,
            producers: producers(&found).map(|state| (end, state)),
            ..PartitionState::empty(id, topic.to_string())
        }))
    }

    /// Brings the shard's directories and its checkpoint together, where they are of different things.
    fn settle(
        &self,
        checkpoint: &mut Checkpoint,
        producers: &impl Fn(&RecoveredPartition) -> Option<Vec<u8>>,
    ) -> Result<Vec<Mended>, LogError> {
        let (shard, shards) = (checkpoint.shard as usize, checkpoint.shards as usize);
        let (aside, journaled) = (set_aside(self.data_dir)?, self.journaled(checkpoint)?);
        let (resources, mut mended) = (Resources::new(self.settings.cache_bytes), Vec::new());
        for id in self.partitions.iter().copied().filter(|id| shard_of(*id, shards) == shard) {
            let Some((topic, _)) = self.topics.partition(id) else { continue };
            let dir = partition_dir(self.data_dir, &topic, id.index);
            let at = checkpoint.partitions.iter().position(|state| state.id == id);
            let is_empty = at.is_none_or(|at| {
                let state = &checkpoint.partitions[at];
                state.log.segments.is_empty() && state.end_offset == 0
            }) && !journaled.contains(&id);
            let mut say = |what| mended.push(Mended { id: Some(id), what });
            let io = |e| LogError::io(&dir, e);
            let in_the_way = match owner(&dir).map_err(io)? {
                Owner::Nobody => false,
                Owner::Topic(topic) => topic != id.topic,
                Owner::Unnamed => {
                    at.is_none_or(|at| checkpoint.partitions[at].log.segments.is_empty()) && !is_empty
                }
            };
            if in_the_way {
                let to = self.put_away(&dir, "")?;
                say(format!("the files in its directory are not its own; they are in {}", to.display()));
            }
            let has_logs = |dir: &Path| Ok(rt::fs::read_dir_names(dir)?.iter().any(|name| is_log_name(name)));
            if !is_empty {
                continue;
            }
            if !has_logs(&dir).map_err(io)?
                && let Some(back) = aside.directory_of(&topic, id.index)
            {
                if rt::fs::exists(&dir) {
                    self.put_away(&dir, "")?;
                }
                rt::fs::rename(&back.dir, &dir).and_then(|()| make_directory(&dir, id)).map_err(io)?;
                say(format!("its directory is back from {}", back.dir.display()));
            }
            if !has_logs(&dir).map_err(io)? {
                continue;
            }
            if let Some(state) = self.scan(id, &resources, producers)? {
                make_directory(&dir, id).map_err(io)?;
                say(format!(
                    "offsets {}..{} of its segments are served",
                    state.log.start_offset, state.end_offset
                ));
                match at {
                    Some(at) => checkpoint.partitions[at] = state,
                    None => checkpoint.partitions.push(state),
                }
            }
        }
        Ok(mended)
    }

    /// The partitions that the journal has entries of.
    fn journaled(&self, checkpoint: &Checkpoint) -> Result<HashSet<PartitionId>, LogError> {
        let dir = journal_dir(self.data_dir, checkpoint.shard as usize);
        let names = rt::fs::read_dir_names(&dir).map_err(|e| LogError::io(&dir, e))?;
        if !names.iter().any(|name| is_journal_file(name)) {
            return Ok(HashSet::new());
        }
        let needed = inspect(&dir, checkpoint.known())?.into_iter().filter(|file| file.needed);
        let entries = needed.flat_map(|file| file.entries).filter(|(entry, _)| entry.lsn >= checkpoint.floor);
        Ok(entries.map(|(entry, _)| entry.partition).collect())
    }
}

/// Takes what does not read back out of the logs' segments.
async fn take_out(
    store: &ShardLog,
    mut logs: Vec<Rc<PartitionLog>>,
    aside: &Path,
    state: &impl Fn(PartitionId) -> Option<(Offset, Vec<u8>)>,
) -> Result<Vec<Mended>, LogError> {
    let mut damaged = Vec::new();
    for log in logs.drain(..) {
        if log.has_damage().await? {
            log.seal_all().await?;
            damaged.push(log);
        }
    }
    if !damaged.is_empty() {
        store.checkpoint(state).await?;
    }
    let mut mended = Vec::new();
    for log in damaged {
        for out in log.take_out_damage(aside).await? {
            let kept =
                out.kept.map_or("it was gone".into(), |kept| format!("the old file is {}", kept.display()));
            let what =
                format!("offsets {} taken out of segment {:020}; {kept}", listed(&out.offsets), out.segment);
            mended.push(Mended { id: Some(log.id()), what });
        }
    }
    Ok(mended)
}

fn listed(ranges: &[(i64, i64)]) -> String {
    ranges.iter().map(|(from, until)| format!("{from}..{until}")).collect::<Vec<_>>().join(", ")
}

/// Appends what recovery could not: the batches set aside, and empty ones in the place of what is missing. Says what was
/// done.
async fn bring_back(
    partition: &mut RecoveredPartition,
    promised: i64,
    dir: &Path,
    lsn: Lsn,
) -> Result<String, LogError> {
    let log = partition.log.clone();
    let mut names = match rt::fs::exists(dir) {
        true => rt::fs::read_dir_names(dir).map_err(|e| LogError::io(dir, e))?,
        false => Vec::new(),
    };
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    let (mut records, mut lost) = (0, Vec::new());
    for name in names {
        let path = dir.join(name);
        let bytes = Bytes::from(rt::fs::read_all(&path).map_err(|e| LogError::io(&path, e))?);
        for (header, range) in BatchIter::new(&bytes).map_while(Result::ok) {
            let batch = bytes.slice(range);
            if header.base_offset < log.end_offset().0 || batch::checksum(&batch) != header.crc {
                continue;
            }
            lost.extend(skip_to(&log, header.base_offset, lsn));
            partition.replayed.push((header, control::decode(&batch, &header)));
            records += i64::from(header.record_count);
            log.append(&header, batch, lsn);
        }
        log.flush(None).await?;
    }
    lost.extend(skip_to(&log, promised, lsn));
    Ok(match (records, lost.is_empty()) {
        (0, true) => "served again".to_owned(),
        (0, false) => format!("served again without offsets {}", listed(&lost)),
        (_, true) => format!("served again with {records} records that were set aside"),
        (_, false) => {
            format!(
                "served again with {records} records that were set aside, without offsets {}",
                listed(&lost)
            )
        }
    })
}

/// An empty batch up to `to`, if the log ends before; the range that it stands for.
fn skip_to(log: &PartitionLog, to: i64, lsn: Lsn) -> Option<(i64, i64)> {
    let from = log.end_offset().0;
    if to <= from {
        return None;
    }
    let empty = empty_batch(from, to, log.latest_epoch().map_or(0, |epoch| epoch.0)).freeze();
    let header = BatchHeader::parse(&empty).expect("a batch of our own");
    log.append(&header, empty, lsn);
    Some((from, to))
}
