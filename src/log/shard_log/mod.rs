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
mod cuts;
mod direct;
#[cfg(test)]
mod fault_tests;
mod found;
mod garbage;
mod held;
pub mod history;
mod maintain;
mod open;
mod partitions;
mod progress;
mod ready;
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
mod upkeep;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::log::direct::lanes::Lanes;
use crate::log::formats::checkpoint::{Files, FilesStats};
use crate::log::journal::Journal;
use crate::log::{JournalFailed, LogError, Lsn, PartitionLog, Resources};
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::rt::{Notify, Turnstiles};
use crate::wire::batch::BatchHeader;

use cuts::Cuts;
use garbage::Garbage;
use partitions::Partitions;
use progress::Progress;
use ready::Ready;
use space::Space;
use upkeep::Upkeep;

pub use held::{OwnerState, RecoveredPartition};
pub use scrub::ScrubStats;
pub use settings::LogSettings;
pub use sweep::{strays, sweep};
pub use truncate::{ReplicaAppendError, Truncated};

/// See the module's page.
pub struct ShardLog {
    data_dir: PathBuf,
    shard: usize,
    shards: usize,
    settings: LogSettings,
    journal: Rc<Journal>,
    space: Rc<Space>,
    resources: Rc<Resources>,
    partitions: Partitions,
    /// Who waits for room, first come first served.
    gate: Turnstiles<()>,
    ready: Ready,
    /// Logs with promised batches.
    lanes: Rc<Lanes<PartitionLog>>,
    /// Bytes of batches that went straight to their segment.
    written_directly: Cell<u64>,
    upkeep: Upkeep,
    cuts: Rc<Cuts>,
    /// Checkpoints are made one at a time.
    checkpointing: Turnstiles<()>,
    checkpoints: Files,
    progress: Progress,
    /// Rings when a partition was created.
    created: Rc<Notify>,
    removals_unsynced: Cell<bool>,
    garbage: Rc<Garbage>,
    scrub: RefCell<ScrubStats>,
    /// The last run's version of Weir did not put topics' names into their directories.
    trusts_unnamed: bool,
}

impl ShardLog {
    pub fn journal(&self) -> &Rc<Journal> {
        &self.journal
    }

    /// Whether it is being closed: no log is cut any more.
    pub fn is_closing(&self) -> bool {
        self.cuts.are_closed()
    }

    pub fn space(&self) -> &Rc<Space> {
        &self.space
    }

    pub fn resources(&self) -> &Rc<Resources> {
        &self.resources
    }

    /// Checkpoints are made under this version of the metadata from now on; it is durable.
    pub fn follow_metadata(&self, version: u64) {
        self.progress.follow_metadata(version);
    }

    pub fn get(&self, id: PartitionId) -> Option<Rc<PartitionLog>> {
        self.partitions.get(id)
    }

    /// Why the partition must not lead, if so.
    pub fn needs_repair(&self, id: PartitionId) -> Option<Arc<str>> {
        self.partitions.with(id, |held| held.repair().cloned()).flatten()
    }

    /// What checkpoints have cost since the start.
    pub fn checkpoint_stats(&self) -> FilesStats {
        self.checkpoints.stats()
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
        let (offset, epoch) = place(header);
        let lsn = self.journal.append(log.id(), offset, epoch, &batch)?;
        self.space.spend(batch.len());
        log.append(header, batch, lsn);
        if log.tail_bytes() >= self.settings.flush_chunk_bytes as u64 {
            self.ready.add(log.id());
            self.upkeep.rouse();
        } else if !self.upkeep.is_roused()
            && (self.memory_is_short() || self.journal.reclaim_target().is_some())
        {
            self.upkeep.rouse();
        }
        Ok(lsn)
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

/// Where a batch begins, and the leader epoch that it is of.
fn place(header: &BatchHeader) -> (Offset, Option<LeaderEpoch>) {
    (Offset(header.base_offset), LeaderEpoch::from_wire(header.leader_epoch))
}
