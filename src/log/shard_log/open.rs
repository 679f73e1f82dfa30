//! Opening a shard's log: the checkpoint, what the journal holds past it, and what is missing between them.
//!
//! How missing data is noticed, each without trusting the others: an entry that does not follow on the log's end; a log
//! that ends before the checkpoint's end offset; a damaged range of the journal. A damaged entry whose header holds
//! names its partition. A range that names none, past the checkpoint, may have held anybody's newest batches: who
//! has no later entry that follows on is marked too.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::log::directory::Topics;
use crate::log::directory::holdings::{is_opened_since, note_opened};
use crate::log::error::{is_full, may_pass};
use crate::log::files::layout::{SET_ASIDE, journal_dir, partition_dir, topics_dir};
use crate::log::files::owner::foreign;
use crate::log::formats::checkpoint::{self, Checkpoint, Files, Layout, Loaded, PartitionState};
use crate::log::journal::{Damage, EntryKind, Known, Recovery};
use crate::log::partition::changed::List;
use crate::log::{LogError, Lsn, PartitionCheckpoint, PartitionLog, Resources};
use crate::model::topic_config::TopicConfig;
use crate::model::{Offset, PartitionId};
use crate::rt::{self, Turnstiles};

use super::aside::Aside;
use super::create::in_the_way;
use super::found::Found;
use super::history::{self, Histories};
use super::partitions::Partitions;
use super::progress::Progress;
use super::ready::Ready;
use super::space::{Space, drop_ballast};
use super::upkeep::Upkeep;
use super::{LogSettings, RecoveredPartition, ShardLog};

impl ShardLog {
    /// Recovers the log of one of `shards` shards, after [`sweep`](super::sweep()). Everything that was acknowledged is there when it returns.
    pub async fn open(
        data_dir: &Path,
        shard: usize,
        shards: usize,
        topics: &dyn Topics,
        settings: LogSettings,
    ) -> Result<(Rc<Self>, Vec<RecoveredPartition>), LogError> {
        let dir = journal_dir(data_dir, shard);
        make_directories(data_dir, &dir)?;
        let loaded = load_checkpoint(&dir, shard, shards)?;
        let known = loaded.as_ref().map_or_else(Known::default, |loaded| loaded.checkpoint.known());
        let mut recovery = Recovery::open(&dir, settings.journal(data_dir), known).await?;
        let is_behind = loaded.as_ref().is_none_or(|loaded| !loaded.twice);
        let old_format = loaded.as_ref().is_some_and(Loaded::is_of_old_format);
        let empty = || Checkpoint::empty(shard, shards, recovery.salt());
        let layout = loaded.as_ref().and_then(|loaded| loaded.layout);
        let mut checkpoint = loaded.map_or_else(empty, |loaded| loaded.checkpoint);
        // Files of another size that nobody needs went: that there is none is no loss from here on.
        let emptied = checkpoint.lasting > 0 && !recovery.has_files();
        checkpoint.lasting = if emptied { 0 } else { checkpoint.lasting };
        let unchanged = checkpoint.closed && !is_opened_since(data_dir, shard, checkpoint.number)?;
        let mut opening = Opening {
            data_dir: data_dir.to_owned(),
            journal: dir.clone(),
            topics,
            resources: Resources::new(settings.tail_bytes + settings.cache_bytes),
            floor_is_exact: unchanged && recovery.is_done(),
            checkpoint_durable: checkpoint.durable,
            trusts_unnamed: old_format && !checkpoint.closed,
            histories: Histories::new(),
            found: HashMap::new(),
            aside: Aside::new(data_dir.join(SET_ASIDE)),
            damage: Vec::new(),
            is_behind: false,
        };
        opening.resources.work().set_limit(settings.work_bytes);
        opening.histories = history::by_partition(recovery.marks().await?);
        for state in &checkpoint.partitions {
            opening.open_known(state)?;
        }
        opening.replay(&mut recovery, settings.tail_bytes).await?;
        for found in opening.found.values_mut() {
            found.complete().await?;
        }
        opening.judge();
        let files = opening.record_marks(&mut checkpoint, layout, is_behind || old_format || emptied, &dir);
        let files = files.await?;
        if old_format {
            log::warn!(
                "{}: of an earlier format; from now on checkpoints are of one that earlier versions of Weir cannot read",
                checkpoint::file_path(&dir).display()
            );
        }
        let seen = note_start(data_dir, shard, checkpoint.number).await;
        Ok(opening.finish(recovery, settings, checkpoint, files, seen))
    }
}

/// Makes topics' files know the checkpoint that a start goes on from; the number that they are sure to know.
async fn note_start(data_dir: &Path, shard: usize, number: u64) -> u64 {
    let root = data_dir.to_owned();
    match rt::blocking(move || note_opened(&root, shard, number)).await {
        Ok(()) => number,
        Err(e) => {
            log::warn!("{}: checkpoint {number} is not noted: {e}", topics_dir(data_dir).display());
            0
        }
    }
}

/// What is synced in a directory is only there if the directory's own name is durable, and so on upwards. An earlier
/// start may have made them without getting as far as the sync.
fn make_directories(data_dir: &Path, journal: &Path) -> Result<(), LogError> {
    for dir in [&topics_dir(data_dir), journal] {
        rt::fs::create_dir_all(dir).map_err(|e| LogError::io(dir, e))?;
    }
    for dir in journal.ancestors().skip(1).take_while(|dir| dir.starts_with(data_dir)) {
        rt::fs::sync_dir(dir).map_err(|e| LogError::io(dir, e))?;
    }
    Ok(())
}

fn load_checkpoint(dir: &Path, shard: usize, shards: usize) -> Result<Option<Loaded>, LogError> {
    let path = checkpoint::file_path(dir);
    let Some(loaded) = Checkpoint::load(dir)? else {
        let names = rt::fs::read_dir_names(dir).map_err(|e| LogError::io(dir, e))?;
        if names.iter().any(|name| name.ends_with(".journal")) {
            return Err(LogError::corrupt(path, 0, "there is no checkpoint beside the journal's files"));
        }
        return Ok(None);
    };
    let (its, of) = (loaded.checkpoint.shard as usize, loaded.checkpoint.shards as usize);
    if (its, of) != (shard, shards) {
        let what = format!("it is for shard {its} of {of}, not {shard} of {shards}");
        return Err(LogError::corrupt(path, 0, what));
    }
    Ok(Some(loaded))
}

fn by_id(states: Vec<PartitionState>) -> HashMap<PartitionId, PartitionState> {
    states.into_iter().map(|state| (state.id, state)).collect()
}

pub(super) struct Opening<'a> {
    pub(super) data_dir: PathBuf,
    pub(super) journal: PathBuf,
    pub(super) topics: &'a dyn Topics,
    pub(super) resources: Rc<Resources>,
    /// Nothing was written since the clean close that the checkpoint is of.
    pub(super) floor_is_exact: bool,
    pub(super) checkpoint_durable: Lsn,
    /// What the journal says beside batches, of partitions that were not opened yet.
    pub(super) histories: Histories,
    pub(super) found: HashMap<PartitionId, Found>,
    pub(super) aside: Aside,
    pub(super) damage: Vec<Damage>,
    /// A directory that names no topic may be of a partition that no checkpoint lists yet.
    pub(super) trusts_unnamed: bool,
    /// The checkpoint does not say everything that is known.
    is_behind: bool,
}

fn place(damage: &Damage) -> String {
    format!("{} at offset {}", damage.path.display(), damage.offset)
}

/// What goes with a reason, if the journal has damage.
pub(super) fn last_place(damage: &[Damage]) -> String {
    damage.last().map_or_else(String::new, |damage| format!("; {} is damaged", place(damage)))
}

impl Opening<'_> {
    /// A partition of the checkpoint.
    fn open_known(&mut self, state: &PartitionState) -> Result<(), LogError> {
        let id = state.id;
        let Some((topic, config)) = self.topics.partition(id) else {
            if !self.topics.was_deleted(id.topic) {
                log::warn!(
                    "{}-{} ({}) is in the checkpoint, but no topic has its id",
                    state.topic,
                    id.index,
                    id
                );
            }
            return Ok(());
        };
        let dir = partition_dir(&self.data_dir, &topic, id.index);
        let mut log_state = state.log.clone();
        log_state.clean &= self.floor_is_exact;
        let history = self.histories.remove(&id).unwrap_or_default();
        let unread = history.apply(&mut log_state, self.checkpoint_durable).err();
        let foreign = match (log_state.clean, log_state.segments.is_empty()) {
            (true, _) => None,
            (false, true) => in_the_way(&dir, id, self.trusts_unnamed)?,
            (false, false) => foreign(&dir, id.topic)
                .map_err(|e| LogError::io(&dir, e))?
                .map(|topic| format!("{} holds files of topic {topic}", dir.display())),
        };
        let foreign = foreign.or(unread);
        let opened = match &foreign {
            None => PartitionLog::open(dir.clone(), id, config.clone(), Some(log_state), &self.resources),
            Some(_) => self.stand_in(dir.clone(), id, &config),
        };
        let (log, failure) = match opened {
            Ok(log) => (log, foreign),
            Err(e @ (LogError::Corrupt { .. } | LogError::Newer { .. })) => {
                (self.stand_in(dir, id, &config)?, Some(e.to_string()))
            }
            Err(e) => return Err(e),
        };
        let mut found = Found {
            promised_end: state.end_offset,
            producers: state.producers.clone().map(|(offset, state)| (Offset(offset), state)),
            high_watermark: state.high_watermark,
            repair: state.repair.clone(),
            damaged: state.damaged.clone(),
            ..Found::new(log, topic, state.log.segment_durable_offset)
        };
        found.log.note_listed();
        found.log.list_snapshots(state.snapshots.clone());
        found.follow_history(history, self.checkpoint_durable);
        if let Some(why) = failure {
            found.mark(id, why);
            found.frozen = Some(Box::new(PartitionState { repair: found.repair.clone(), ..state.clone() }));
        }
        self.found.insert(id, found);
        Ok(())
    }

    /// A log in the place of one whose files are not to be touched.
    pub(super) fn stand_in(
        &self,
        dir: PathBuf,
        id: PartitionId,
        config: &Arc<TopicConfig>,
    ) -> Result<Rc<PartitionLog>, LogError> {
        let nothing = PartitionCheckpoint { clean: true, ..PartitionCheckpoint::nothing() };
        PartitionLog::open(dir, id, config.clone(), Some(nothing), &self.resources)
    }

    /// Marks the partitions that lost something.
    fn judge(&mut self) {
        for (id, found) in &mut self.found {
            let end = found.log.end_offset().0;
            if found.frozen.is_none() && end < found.promised_end {
                let promised = found.promised_end;
                let lost = format!("records at offsets {end}..{promised} were durable and are gone");
                found.mark(*id, lost + &last_place(&self.damage));
            }
        }
        for damage in std::mem::take(&mut self.damage) {
            let place = place(&damage);
            match damage.entry {
                Some(entry) => {
                    let (id, base_offset) = (entry.partition, entry.base_offset);
                    let Some(found) = self.found.get_mut(&id) else { continue };
                    let counts = match entry.kind {
                        EntryKind::Batch | EntryKind::Placement => found.log.end_offset().0 <= base_offset,
                        // What it said is in the checkpoint, or nowhere.
                        _ => entry.lsn > self.checkpoint_durable,
                    };
                    if counts && !found.history.is_void(entry.lsn, base_offset + 1) {
                        found.mark(id, format!("the entry of offset {base_offset} is damaged in {place}"));
                    }
                }
                None if damage.to > self.checkpoint_durable => {
                    for (id, found) in &mut self.found {
                        if found.last < damage.to {
                            found.mark(
                                *id,
                                format!("its newest records may have been in {place}, which is damaged"),
                            );
                        }
                    }
                }
                None => {}
            }
        }
    }

    /// Makes new marks durable without changing anything else that the checkpoint says, which lies in its files like this.
    async fn record_marks(
        &mut self,
        checkpoint: &mut Checkpoint,
        layout: Option<Layout>,
        differs: bool,
        dir: &Path,
    ) -> Result<Files, LogError> {
        let mut marked = false;
        for (id, found) in &mut self.found {
            if !found.newly_marked {
                continue;
            }
            marked = true;
            if let Some(state) = checkpoint.partitions.iter_mut().find(|state| state.id == *id) {
                state.repair = found.repair.clone();
                continue;
            }
            checkpoint.partitions.push(PartitionState {
                repair: found.repair.clone(),
                ..PartitionState::empty(*id, found.topic.to_string())
            });
        }
        let number = checkpoint.number;
        let files = |layout, number| Files::new(dir.to_owned(), layout, number);
        if !marked && !differs {
            return Ok(files(layout, number));
        }
        checkpoint.origin = Some(self.topics.origin());
        checkpoint.number += 1;
        let mut stored = checkpoint.store(dir).await;
        if matches!(&stored, Err(LogError::Io { source, .. }) if is_full(source)) && drop_ballast(dir) {
            stored = checkpoint.store(dir).await;
        }
        match stored {
            Ok(layout) => Ok(files(Some(layout), checkpoint.number)),
            // A start needs no room. The next checkpoint says what this one would have; until there is one, everything
            // stays from which a start learns it.
            Err(LogError::Io { path, source }) if may_pass(&source) => {
                log::warn!("{}: {source}; the next checkpoint says what is new", path.display());
                self.is_behind = true;
                checkpoint.number = number;
                Ok(files(None, number))
            }
            Err(e) => Err(e),
        }
    }

    fn finish(
        self,
        recovery: Recovery,
        settings: LogSettings,
        checkpoint: Checkpoint,
        files: Files,
        seen: u64,
    ) -> (Rc<ShardLog>, Vec<RecoveredPartition>) {
        let (shard, shards) = (checkpoint.shard as usize, checkpoint.shards as usize);
        let list: Rc<List> = Rc::default();
        let mut known = by_id(checkpoint.partitions);
        let mut logs = HashMap::new();
        let mut recovered = Vec::new();
        for (id, found) in self.found {
            let (held, partition) = found.settle(id);
            held.follow_changes(&list, known.remove(&id).filter(|_| !self.is_behind), &partition);
            logs.insert(id, held);
            recovered.push(partition);
        }
        recovered.sort_by_key(|partition| partition.id);
        let space = Space::new(journal_dir(&self.data_dir, shard), settings.reserve_bytes, shards);
        let gone = known.into_keys().collect();
        let origin = self.topics.origin();
        let (number, lsn) = (checkpoint.number, self.checkpoint_durable);
        let store = ShardLog {
            data_dir: self.data_dir,
            shard,
            shards,
            settings,
            journal: Rc::new(recovery.finish()),
            space,
            resources: self.resources,
            partitions: Partitions::new(logs, list, gone),
            gate: Turnstiles::default(),
            ready: Ready::default(),
            lanes: Rc::default(),
            written_directly: Cell::new(0),
            upkeep: Upkeep::new(),
            cuts: Rc::default(),
            checkpointing: Turnstiles::default(),
            checkpoints: files,
            progress: Progress::new(number, lsn, self.is_behind, origin, seen),
            created: Rc::default(),
            removals_unsynced: Cell::new(false),
            garbage: Rc::default(),
            scrub: RefCell::default(),
            trusts_unnamed: self.trusts_unnamed,
        };
        // The checkpoint's marks may be of files that were replaced after it.
        store.note_damage();
        if shard == 0 {
            store.collect_garbage();
        }
        (Rc::new(store), recovered)
    }
}
