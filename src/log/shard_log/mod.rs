//! One shard's log: its journal, its partitions' logs, its checkpoint, and the tasks that keep them in bounds.
//!
//! ```text
//! <data>/journal/<shard>/{00000000.journal …, checkpoint}    topics/<topic>-<partition>/    set-aside/
//! ```
//!
//! - An append is in memory and on its way into the journal; the journal says when it is durable.
//! - Memory that segments do not hold yet and journal space are bounded. Who appends asks for room first and waits
//!   in line; maintenance makes room from half of each bound on.
//! - What a partition is given faster than the disk could take it twice goes straight to its segment (`direct`).
//! - A journal entry is let go only after its partition's segment was synced and a checkpoint says so.
//! - What is deleted is renamed, which is what counts; its space comes back behind that, in pieces (`removal`).
//! - A new partition's name is in a checkpoint soon: without metadata nothing else may tell it.
//! - Nothing is deleted or moved because nothing is known of it: only metadata that says so deletes (`belongs`).
//! - A partition of which durable data is missing is marked for repair, durably, and must not lead.

mod aside;
#[cfg(test)]
mod bridge_tests;
mod checkpoints;
mod create;
mod direct;
#[cfg(test)]
mod fault_tests;
mod found;
pub mod history;
mod maintain;
mod open;
mod removal;
mod replay;
mod room;
mod scrub;
mod settings;
pub mod space;
mod sweep;
#[cfg(test)]
mod tests;
mod truncate;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::log::direct::lanes::Lanes;
use crate::log::formats::checkpoint::{Files, FilesStats, Origin, PartitionState};
use crate::log::journal::Journal;
use crate::log::partition::changed::List;
use crate::log::resources::damage::DamagedRange;
use crate::log::{JournalFailed, LogError, Lsn, PartitionLog, Resources};
use crate::model::PartitionId;
use crate::rt::{Notify, Turnstiles};
use crate::wire::batch::BatchHeader;
use crate::wire::control::EndMarker;

use removal::Refuse;
use space::Space;

pub use scrub::ScrubStats;
pub use settings::LogSettings;
pub use sweep::{strays, sweep};
pub use truncate::{ReplicaAppendError, Truncated};

/// A partition as recovery found it.
pub struct RecoveredPartition {
    pub id: PartitionId,
    pub log: Rc<PartitionLog>,
    /// The producers' state in the checkpoint and the offset up to which it accounts for batches.
    pub producer_state: Option<(i64, Vec<u8>)>,
    /// The batches past that offset, in order, with what those that end a transaction say.
    pub replayed: Vec<(BatchHeader, Option<EndMarker>)>,
    pub high_watermark: i64,
    /// Why the partition must not lead: durable data of it is missing.
    pub repair: Option<Arc<str>>,
}

struct Held {
    log: Rc<PartitionLog>,
    topic: String,
    repair: Option<Arc<str>>,
    /// Where the log ended before something was lost, for as long as it is marked for repair.
    promised_end: i64,
    damaged: RefCell<Vec<DamagedRange>>,
    /// The log could not be opened: what the last checkpoint said of it stays as it is.
    frozen: Option<Box<PartitionState>>,
}

/// See the module's page.
pub struct ShardLog {
    data_dir: PathBuf,
    shard: usize,
    shards: usize,
    settings: LogSettings,
    journal: Rc<Journal>,
    space: Rc<Space>,
    resources: Rc<Resources>,
    logs: RefCell<HashMap<PartitionId, Held>>,
    /// Who waits for room, first come first served.
    gate: Turnstiles<()>,
    /// Logs with a chunk's worth to write.
    ready: RefCell<(VecDeque<PartitionId>, HashSet<PartitionId>)>,
    /// Logs with promised batches.
    lanes: Rc<Lanes<PartitionLog>>,
    /// Bytes of batches that went straight to their segment.
    written_directly: Cell<u64>,
    /// Wakes maintenance; `roused` until it has looked.
    work: Notify,
    roused: Cell<bool>,
    ticked: Cell<bool>,
    /// The disk is short of room.
    pressed: Cell<bool>,
    closing: Cell<bool>,
    maintained: Cell<bool>,
    maintenance_over: Notify,
    checkpointing: Cell<bool>,
    checkpointed: Notify,
    /// The last lsn at the last checkpoint, and whether anything else changed since.
    checkpoint_lsn: Cell<Lsn>,
    changed: Cell<bool>,
    removals_unsynced: Cell<bool>,
    refuse: Rc<Refuse>,
    scrub: RefCell<ScrubStats>,
    /// A partition was created; `unnamed` once it is time for the checkpoint that tells its name.
    created: Rc<Notify>,
    unnamed: Cell<bool>,
    /// Whether a checkpoint was written since the start.
    current: Cell<bool>,
    /// The metadata that is applied, and the number of the last checkpoint.
    origin: RefCell<Origin>,
    number: Cell<u64>,
    files: Files,
    /// The logs that the next checkpoint has to look at, and the partitions that are gone since the last.
    list: Rc<List>,
    gone: RefCell<Vec<PartitionId>>,
    /// The number that topics' files are known to have.
    seen: u64,
    /// The last run's version of Weir did not put topics' names into their directories.
    trusts_unnamed: bool,
}

impl ShardLog {
    pub fn journal(&self) -> &Rc<Journal> {
        &self.journal
    }

    pub fn space(&self) -> &Rc<Space> {
        &self.space
    }

    pub fn resources(&self) -> &Rc<Resources> {
        &self.resources
    }

    /// Checkpoints are made under this version of the metadata from now on; it is durable.
    pub fn follow_metadata(&self, version: u64) {
        self.origin.borrow_mut().version = version;
    }

    pub fn get(&self, id: PartitionId) -> Option<Rc<PartitionLog>> {
        self.logs.borrow().get(&id).map(|held| held.log.clone())
    }

    /// Why the partition must not lead, if so.
    pub fn needs_repair(&self, id: PartitionId) -> Option<Arc<str>> {
        self.logs.borrow().get(&id).and_then(|held| held.repair.clone())
    }

    /// What checkpoints have cost since the start.
    pub fn checkpoint_stats(&self) -> FilesStats {
        self.files.stats()
    }

    /// Memory held by batches that no segment has.
    pub fn tail_bytes(&self) -> usize {
        self.resources.pinned_bytes()
    }

    /// Memory held for readers only.
    pub fn cache_bytes(&self) -> usize {
        self.resources.cached_bytes() + self.resources.read_bytes()
    }

    /// Bytes that readers had read from disk.
    pub fn disk_reads(&self) -> u64 {
        self.resources.disk_reads()
    }

    /// Puts a stamped batch into the journal and the log; neither, when the journal has failed.
    pub fn append(
        &self,
        log: &PartitionLog,
        header: &BatchHeader,
        batch: Bytes,
    ) -> Result<Lsn, JournalFailed> {
        if self.writes_directly(log, batch.len()) {
            return self.append_directly(log, header, batch);
        }
        let lsn = self.journal.append(log.id(), header.base_offset, header.leader_epoch, &batch)?;
        self.space.spend(batch.len());
        log.append(header, batch, lsn);
        if log.tail_bytes() >= self.settings.flush_chunk_bytes as u64 {
            let mut ready = self.ready.borrow_mut();
            if ready.1.insert(log.id()) {
                ready.0.push_back(log.id());
            }
            drop(ready);
            self.rouse();
        } else if !self.roused.get() && (self.memory_is_short() || self.journal.reclaim_target().is_some()) {
            self.rouse();
        }
        Ok(lsn)
    }

    fn rouse(&self) {
        if !self.roused.replace(true) {
            self.work.notify_all();
        }
    }

    /// Whether the failure is the disk's, and there to stay. A disk that does not keep what it was given cannot be trusted
    /// with acknowledgements from then on.
    fn distrusts(&self, failure: &LogError) -> bool {
        let lasting = failure.is_lasting();
        if lasting && let LogError::Io { path, source } = failure {
            self.journal.poison(path, source);
        }
        lasting
    }

    fn memory_is_short(&self) -> bool {
        self.resources.pinned_bytes() > self.settings.tail_bytes / 2
    }
}

/// What a checkpoint has of a partition that its owner knows.
#[derive(Clone, Debug, Default)]
pub struct OwnerState {
    /// Producers' state and the offset up to which it accounts for batches: the log end, or past it where the log is being cut
    /// and the owner has not followed. `None` for no producers.
    pub producers: Option<(i64, Vec<u8>)>,
    /// `None`: the log end.
    pub high_watermark: Option<i64>,
}

impl From<Option<(i64, Vec<u8>)>> for OwnerState {
    fn from(producers: Option<(i64, Vec<u8>)>) -> Self {
        Self { producers, high_watermark: None }
    }
}

type States<'a> = dyn Fn(PartitionId) -> OwnerState + 'a;

impl Held {
    fn state(&self, id: PartitionId, states: &States<'_>, closed: bool) -> PartitionState {
        if let Some(frozen) = &self.frozen {
            return (**frozen).clone();
        }
        let mut log = self.log.checkpoint();
        log.clean &= closed;
        let end_offset = self.log.end_offset().max(self.promised_end);
        let OwnerState { producers, high_watermark } = states(id);
        PartitionState {
            id,
            topic: self.topic.clone(),
            log,
            end_offset,
            high_watermark: high_watermark.map_or(end_offset, |known| known.min(end_offset)),
            producers,
            repair: self.repair.as_ref().map(|why| why.to_string()),
            damaged: self.damaged_from(self.log.start_offset()),
            snapshots: self.log.snapshots(),
        }
    }
}
