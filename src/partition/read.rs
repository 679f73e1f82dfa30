//! Reading one partition for a consumer, and the lookups that find an offset.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::Replica;
use super::assignment::Role;
use super::peer::Epochs;
use crate::log::LogError;
use crate::model::{LeaderEpoch, Offset, ProducerId};
use crate::wire::batch::BatchIter;

/// Where a consumer wants to read, and what it believes of the leader, if anything.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// As it was asked for: what is negative is out of range, as all below the log's start.
    pub offset: Offset,
    pub max_bytes: usize,
    pub leader_epoch: Option<LeaderEpoch>,
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Only what is committed: up to the last stable offset, with the aborted transactions told.
    pub committed: bool,
}

/// What a read returns, also when there is nothing to read.
#[derive(Clone, Debug, Default)]
pub struct ReadOutcome {
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    /// Producers and first offsets of aborted transactions among the batches, for readers of committed data.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
    /// Where the reader's log left this one: its epoch and that epoch's end (KIP-595).
    pub diverging: Option<(LeaderEpoch, Offset)>,
    pub batches: Vec<Bytes>,
    /// What the least that can be read from disk takes, where that was not to be read; 0 if there is nothing.
    pub cold: usize,
}

impl ReadOutcome {
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }

    /// Where this reader has to stop.
    fn limit(&self) -> Offset {
        if self.aborted.is_some() { self.last_stable_offset } else { self.high_watermark }
    }
}

#[derive(Clone, Debug, Error)]
pub enum ReadError {
    #[error("no such partition here")]
    UnknownPartition,
    /// Another broker leads the partition, or none does.
    #[error("this broker does not lead the partition")]
    NotLeader,
    #[error("the offset is outside of the log")]
    OffsetOutOfRange,
    /// What an earlier leader committed is not known yet (KIP-207).
    #[error("the end of what is committed is not known yet")]
    OffsetNotAvailable,
    #[error("the leader epoch is older than the partition's")]
    FencedEpoch,
    #[error("the leader epoch is newer than the partition's")]
    UnknownEpoch,
    #[error("corrupt: {0}")]
    Corrupt(Arc<str>),
    #[error("{0}")]
    Storage(Arc<str>),
}

impl From<LogError> for ReadError {
    fn from(e: LogError) -> Self {
        match &e {
            LogError::Corrupt { .. } => Self::Corrupt(e.to_string().into()),
            _ => Self::Storage(e.to_string().into()),
        }
    }
}

/// What ListOffsets asks for, besides a time.
pub mod special_timestamp {
    pub const LATEST: i64 = -1;
    pub const EARLIEST: i64 = -2;
    pub const MAX_TIMESTAMP: i64 = -3;
    pub const EARLIEST_LOCAL: i64 = -4;
    pub const LATEST_TIERED: i64 = -5;
    pub const EARLIEST_PENDING_UPLOAD: i64 = -6;
}

/// The answer to a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    pub offset: Offset,
    /// Of the record there; `None` for an end of the log.
    pub timestamp: Option<i64>,
    pub leader_epoch: LeaderEpoch,
}

impl Replica {
    /// Whether it may answer a client that has this idea of the leader epoch, if any. The epoch is looked at first
    /// (K `Partition.getLocalLog`): who is behind is to ask for metadata, who is ahead to wait.
    pub fn check_leader(&self, claimed: Option<LeaderEpoch>) -> Result<(), ReadError> {
        let known = self.leader_epoch();
        match claimed {
            Some(claimed) if claimed < known => Err(ReadError::FencedEpoch),
            Some(claimed) if claimed > known => Err(ReadError::UnknownEpoch),
            _ if self.role() != Role::Leader => Err(ReadError::NotLeader),
            _ => Ok(()),
        }
    }

    fn begin_read(&self, position: &Position) -> Result<ReadOutcome, ReadError> {
        self.check_leader(position.leader_epoch)?;
        if let Some(reason) = self.log.needs_repair() {
            return Err(ReadError::Corrupt(reason));
        }
        let (high_watermark, log_start_offset) = (self.high_watermark(), self.log.start_offset());
        if position.offset < log_start_offset {
            return Err(ReadError::OffsetOutOfRange);
        }
        let mut outcome = ReadOutcome {
            high_watermark,
            last_stable_offset: self.last_stable_offset(),
            log_start_offset,
            aborted: position.committed.then(Vec::new),
            ..ReadOutcome::default()
        };
        if let Some(last) = position.last_fetched_epoch {
            // Of an epoch that this log does not know nobody can tell where the reader's left it.
            let (epoch, end) = self.end_of(last).ok_or(ReadError::OffsetOutOfRange)?;
            if epoch < last || end < position.offset {
                outcome.diverging = Some((epoch, end));
                return Ok(outcome);
            }
        }
        if position.offset > self.log.end_offset() {
            return Err(ReadError::OffsetOutOfRange);
        }
        Ok(outcome)
    }

    /// The aborted transactions among the batches of an outcome.
    fn note_aborted(&self, outcome: &mut ReadOutcome, from: Offset) {
        if outcome.aborted.is_none() || outcome.batches.is_empty() {
            return;
        }
        let last = outcome.batches.last().and_then(|bytes| BatchIter::new(bytes).flatten().last());
        let to = last.map_or(outcome.last_stable_offset, |(header, _)| Offset(header.next_offset()));
        outcome.aborted = Some(self.aborted_in(from, to));
    }

    /// Reads from memory. `Ok(None)`: the disk has to be asked, with [`Self::read`].
    pub fn read_cached(
        &self,
        position: &Position,
        at_least_one: bool,
    ) -> Result<Option<ReadOutcome>, ReadError> {
        let mut outcome = self.begin_read(position)?;
        if outcome.diverging.is_some() || position.offset >= outcome.limit() {
            return Ok(Some(outcome));
        }
        let Position { offset, max_bytes, .. } = *position;
        let Some(batches) = self.log.read_cached(offset, outcome.limit(), max_bytes, at_least_one) else {
            return Ok(None);
        };
        outcome.batches = batches;
        self.note_aborted(&mut outcome, offset);
        Ok(Some(outcome))
    }

    /// What is known of a position whose batches are on disk, without reading them.
    pub async fn find_cold(&self, position: &Position) -> Result<ReadOutcome, ReadError> {
        let mut outcome = self.begin_read(position)?;
        outcome.cold = self.log.cold_bytes(position.offset).await?;
        Ok(outcome)
    }

    pub async fn read(&self, position: &Position, at_least_one: bool) -> Result<ReadOutcome, ReadError> {
        if let Some(outcome) = self.read_cached(position, at_least_one)? {
            return Ok(outcome);
        }
        let mut outcome = self.begin_read(position)?;
        let Position { offset, max_bytes, .. } = *position;
        outcome.batches = self.log.read(offset, outcome.limit(), max_bytes, at_least_one).await?;
        self.note_aborted(&mut outcome, offset);
        Ok(outcome)
    }

    /// ListOffsets for one partition; `None` if there is no such offset.
    pub async fn find_offset(
        &self,
        timestamp: i64,
        leader_epoch: Option<LeaderEpoch>,
        committed: bool,
    ) -> Result<Option<FoundOffset>, ReadError> {
        self.check_leader(leader_epoch)?;
        let end = || if committed { self.last_stable_offset() } else { self.high_watermark() };
        let at =
            |offset| Ok(Some(FoundOffset { offset, timestamp: None, leader_epoch: self.leader_epoch() }));
        let found = match timestamp {
            special_timestamp::LATEST if !self.knows_committed() => {
                return Err(ReadError::OffsetNotAvailable);
            }
            special_timestamp::LATEST => return at(end()),
            special_timestamp::EARLIEST | special_timestamp::EARLIEST_LOCAL => {
                return at(self.log.start_offset());
            }
            // Nothing is ever on its way to another store.
            special_timestamp::LATEST_TIERED | special_timestamp::EARLIEST_PENDING_UPLOAD => return Ok(None),
            special_timestamp::MAX_TIMESTAMP => self.log.max_timestamp().await?,
            timestamp => self.log.offset_for_timestamp(timestamp).await?,
        };
        match found {
            Some(found) if found.offset < end() => Ok(Some(FoundOffset {
                offset: found.offset,
                timestamp: Some(found.timestamp),
                leader_epoch: found.leader_epoch,
            })),
            Some(_) if !self.knows_committed() => Err(ReadError::OffsetNotAvailable),
            _ => Ok(None),
        }
    }

    /// OffsetForLeaderEpoch for one partition: the largest epoch up to `epoch`, and where it ends; `None` if the log knows
    /// none.
    pub fn epoch_end(
        &self,
        epoch: LeaderEpoch,
        current: Option<LeaderEpoch>,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ReadError> {
        self.check_leader(current)?;
        Ok(self.end_of(epoch))
    }

    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        // The leader's own epoch is open, also before anything was appended in it.
        if epoch == self.leader_epoch() {
            return Some((epoch, self.log.end_offset()));
        }
        Epochs::end_of(&*self.log, epoch)
    }
}
