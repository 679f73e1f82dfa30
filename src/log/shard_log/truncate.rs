//! What a log is told by who leads it: batches that have their place already, where its history is another from here on,
//! when a leader epoch begins.
//!
//! The caller owns the partition: nothing is appended to a log while it is being cut.

use std::rc::Rc;

use bytes::Bytes;

use crate::log::journal::EntryKind;
use crate::log::partition::{Plan, Producers};
use crate::log::{JournalFailed, LogError, Lsn, PartitionLog};
use crate::model::{LeaderEpoch, Offset};
use crate::rt;
use crate::wire::batch::BatchHeader;

use super::ShardLog;

/// What became of a log that was cut. It is on disk.
#[derive(Clone, Debug)]
pub struct Truncated {
    /// Where the log ends: where it was told to, or before the batch that reached past that.
    pub end_offset: Offset,
    /// What producers' state is made of now.
    pub producers: Producers,
}

/// Why a leader's batch was not taken. Nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReplicaAppendError {
    #[error("the batch starts at offset {base_offset}, the log ends at {end_offset}")]
    NotNext { base_offset: Offset, end_offset: Offset },
    #[error("the batch is of leader epoch {epoch}, the log has one of {latest}")]
    EpochFell { epoch: LeaderEpoch, latest: LeaderEpoch },
    #[error(transparent)]
    Journal(#[from] JournalFailed),
}

impl ShardLog {
    /// As [`append`](Self::append), of a batch as its leader gave it: it keeps its offsets and its leader epoch. Its checksum
    /// was checked. It has to follow on the log's end, and its epoch on those before.
    pub fn append_replica(
        &self,
        log: &PartitionLog,
        header: &BatchHeader,
        batch: Bytes,
    ) -> Result<Lsn, ReplicaAppendError> {
        let (base_offset, end_offset) = (Offset(header.base_offset), log.end_offset());
        if base_offset != end_offset {
            return Err(ReplicaAppendError::NotNext { base_offset, end_offset });
        }
        let epoch = LeaderEpoch(header.leader_epoch);
        match log.latest_epoch() {
            Some(latest) if epoch < latest => Err(ReplicaAppendError::EpochFell { epoch, latest }),
            _ => Ok(self.append(log, header, batch)?),
        }
    }

    /// Leader epoch `epoch` begins at the log's end, even if no batch of it ever follows (apache/kafka#23205): it is on disk
    /// when the lsn is durable. `None` if the log knows of it.
    pub fn epoch_start(&self, log: &PartitionLog, epoch: LeaderEpoch) -> Result<Option<Lsn>, JournalFailed> {
        if log.latest_epoch().is_some_and(|latest| latest >= epoch) {
            return Ok(None);
        }
        let lsn =
            self.journal.append_as(EntryKind::EpochStart, log.id(), log.end_offset(), Some(epoch), &[])?;
        log.note_epoch_at(epoch, log.end_offset());
        Ok(Some(lsn))
    }

    /// Ends the log at `to`, or before the batch that has it within; `epoch` is the leader epoch that says so. Epochs that
    /// start there or later are forgotten even if no batch goes. A log that starts past `to` begins anew there.
    ///
    /// What it cut is durable when it returns, with all before it; where there is nothing to cut, nothing is waited for.
    /// Where it fails, nothing has changed, or the journal has failed.
    pub async fn truncate(
        &self,
        log: &Rc<PartitionLog>,
        to: Offset,
        epoch: LeaderEpoch,
    ) -> Result<Truncated, LogError> {
        self.cut(log, Some(to), to, epoch).await
    }

    /// Empties the log, which then starts at `start`. What was missing or damaged of it matters no more.
    ///
    /// Durable when it returns. Where it fails, nothing has changed, or the journal has failed.
    pub async fn reset(
        &self,
        log: &Rc<PartitionLog>,
        start: Offset,
        epoch: LeaderEpoch,
    ) -> Result<Truncated, LogError> {
        self.cut(log, None, start, epoch).await
    }

    async fn cut(
        &self,
        log: &Rc<PartitionLog>,
        truncate: Option<Offset>,
        start: Offset,
        epoch: LeaderEpoch,
    ) -> Result<Truncated, LogError> {
        let _under_way = self.cuts.begin()?;
        if self.is_frozen(log.id()) || self.get(log.id()).is_none() {
            return Err(LogError::Removed);
        }
        let turn = loop {
            let placed = self.lanes.done().listen();
            let turn = log.turn().await;
            if log.is_removed() {
                return Err(LogError::Removed);
            }
            if let Some(why) = self.journal.failed() {
                return Err(JournalFailed(why).into());
            }
            // What goes straight to its segment has to be there, and in the journal; what was cut before, off the files.
            if log.is_promised() {
                drop(turn);
                placed.await;
            } else if log.finish_cut().await? {
                break turn;
            } else {
                drop(turn);
                self.journal.wait_entries(log.last_cut()).await?;
                log.note_cut_durable(log.last_cut());
            }
        };
        let mut plan = match truncate.filter(|to| *to >= log.start_offset()) {
            Some(to) => log.plan_cut(to).await?,
            None => Some(log.plan_reset(start).await?),
        };
        // All of it goes, and the batch that its start is within is to come back whole.
        if let Some(to) =
            plan.as_ref().map(|plan| plan.to).filter(|to| *to < log.start_offset() && truncate.is_some())
        {
            plan = Some(log.plan_reset(to.min(start)).await?);
        }
        if let Some(plan) = plan {
            log.lower_first_dirty(plan.to).await;
            let lsn = self.apply_cut(log, plan, epoch)?;
            drop(turn);
            self.finish_cut(log, lsn).await?;
        } else {
            drop(turn);
        }
        Ok(Truncated { end_offset: log.end_offset(), producers: log.producers().await? })
    }

    /// The journal is told, and memory is as it will be.
    fn apply_cut(&self, log: &PartitionLog, plan: Plan, epoch: LeaderEpoch) -> Result<Lsn, JournalFailed> {
        let (to, resets, epoch) = (plan.to, plan.resets, Some(epoch));
        let lsn = match resets {
            true => self.journal.append_as(EntryKind::Reset, log.id(), to, epoch, &[])?,
            false => self.journal.append_as(EntryKind::Truncate, log.id(), to, epoch, &plan.cut.encode())?,
        };
        log.cut(plan, lsn);
        self.partitions.change(log.id(), |held| held.cut(to.0, resets));
        self.progress.touch();
        Ok(lsn)
    }

    /// Does the rest once the entry is on disk, whether the caller waits or not.
    async fn finish_cut(&self, log: &Rc<PartitionLog>, lsn: Lsn) -> Result<(), LogError> {
        let (journal, log) = (self.journal.clone(), log.clone());
        let done = rt::spawn(async move {
            journal.wait_entries(lsn).await?;
            log.note_cut_durable(lsn);
            let _turn = log.turn().await;
            if log.is_removed() {
                return Ok(());
            }
            if let Err(e) = log.finish_cut().await {
                // Whoever changes files next does it first.
                log::warn!("{e}; what was cut off is still on the disk");
            }
            Ok(())
        });
        done.await
    }

    /// Returns when no truncation waits for the journal.
    pub(super) async fn await_cuts(&self) {
        for log in self.partitions.logs(|held| held.log().is_cut_halfway()) {
            if self.journal.wait_entries(log.last_cut()).await.is_ok() {
                log.note_cut_durable(log.last_cut());
            }
        }
    }
}
