//! Appending to and watching one partition.
//!
//! Offsets obey `log start ≤ high watermark ≤ log end`; with one replica the high watermark is the durable log end,
//! so a consumer never reads what a crash could take back (unless the topic opted out with `write.caching`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use thiserror::Error;

use super::producer::{Origin, ProducerError, ProducerView, Producers, Verdict};
use super::verification::{Guard, Verifications};
use crate::log::{DiskFull, JournalFailed, Lsn, PartitionLog, ShardLog};
use crate::model::PartitionId;
use crate::model::topic_config::{TimestampType, TopicConfig};
use crate::wire::ProducedBatch;
use crate::wire::batch::{self, BatchError};
use crate::wire::control::{self, EndMarker};
use crate::wire::validate::{Refusal, Rules, Sound};

#[derive(Debug, Error)]
pub enum AppendError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Producer(#[from] ProducerError),
    #[error("no transaction is known of that the batch belongs to")]
    NotVerified,
    #[error("the partition needs repair: {0}")]
    NeedsRepair(Arc<str>),
    #[error("{0}")]
    DiskFull(#[from] DiskFull),
    #[error("the journal has failed: {0}")]
    JournalFailed(Arc<str>),
}

impl From<BatchError> for AppendError {
    fn from(e: BatchError) -> Self {
        Self::Refused(e.into())
    }
}

impl From<JournalFailed> for AppendError {
    fn from(failed: JournalFailed) -> Self {
        Self::JournalFailed(failed.0)
    }
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    /// The broker's time, where the topic's timestamps are the broker's; -1 otherwise.
    pub log_append_time: i64,
    pub log_start_offset: i64,
    /// The journal position whose durability acknowledges the batch; `None` when that is not to be waited for.
    pub lsn: Option<Lsn>,
}

/// The end of a transaction, as its coordinator asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOfTxn {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub marker: EndMarker,
    /// The version of the transaction protocol: from 2 on every transaction has an epoch of its own.
    pub version: i8,
}

pub struct Replica {
    pub id: PartitionId,
    pub topic: Arc<str>,
    pub log: Rc<PartitionLog>,
    config: RefCell<Arc<TopicConfig>>,
    leader_epoch: Cell<i32>,
    pub(super) producers: RefCell<Producers>,
    pub(super) verifications: RefCell<Verifications>,
    high_watermark: Cell<i64>,
    /// Appended batches that no commit covers yet: their journal position and the log end they make.
    undurable: RefCell<VecDeque<(Lsn, i64)>>,
    watchers: RefCell<Vec<Watcher>>,
    purge_at: Cell<usize>,
}

/// Somebody who waits for any of several partitions to have something new.
pub trait Waiting {
    /// Something is new. Called any number of times.
    fn fire(&self);
    /// Whether nobody waits any more.
    fn is_over(&self) -> bool;
}

struct Watcher {
    above: i64,
    waiting: Rc<dyn Waiting>,
}

/// Watchers of a partition that may be over before the list is looked through.
const WATCHERS_UNPURGED: usize = 16;

impl Replica {
    pub fn new(
        id: PartitionId,
        topic: Arc<str>,
        log: Rc<PartitionLog>,
        config: Arc<TopicConfig>,
        leader_epoch: i32,
    ) -> Self {
        let end = log.end_offset();
        Self {
            id,
            topic,
            log,
            config: RefCell::new(config),
            leader_epoch: Cell::new(leader_epoch),
            producers: RefCell::default(),
            verifications: RefCell::default(),
            high_watermark: Cell::new(end),
            undurable: RefCell::default(),
            watchers: RefCell::default(),
            purge_at: Cell::new(WATCHERS_UNPURGED),
        }
    }

    pub fn set_producers(&self, mut producers: Producers) {
        producers.transactions_mut().settle(self.high_watermark());
        producers.transactions_mut().cut(self.log.start_offset());
        self.producers.replace(producers);
    }

    /// The producers' state as of the log end, to be stored once that is durable.
    pub fn producer_snapshot(&self) -> Option<(i64, Vec<u8>)> {
        let mut producers = self.producers.borrow_mut();
        producers.transactions_mut().cut(self.log.start_offset());
        (!producers.is_empty()).then(|| (self.log.end_offset(), producers.snapshot()))
    }

    pub fn expire_producers(&self, before_ms: i64) {
        self.producers.borrow_mut().expire(before_ms);
        self.verifications.borrow_mut().forget_idle();
    }

    /// What each producer did here.
    pub fn producers(&self) -> Vec<ProducerView> {
        self.producers.borrow().views().collect()
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.borrow().clone()
    }

    pub fn set_config(&self, config: Arc<TopicConfig>) {
        self.log.set_config(&config);
        *self.config.borrow_mut() = config;
    }

    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch.get()
    }

    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.get()
    }

    /// What batches are checked by before they come here.
    pub fn rules(&self, now_ms: i64) -> Rules {
        Rules::new(&self.config.borrow(), now_ms)
    }

    /// Gives a produced batch its place and queues it for the journal. On success it is in memory, ordered, and
    /// acknowledged once `lsn` is durable.
    ///
    /// The first batch of a transaction needs a guard, taken before its coordinator said that it knows of it.
    pub fn append(
        &self,
        store: &ShardLog,
        batch: Sound,
        now_ms: i64,
        guard: Option<Guard>,
    ) -> Result<Appended, AppendError> {
        self.check_writable(store)?;
        let header = *batch.header();
        if header.producer_id >= 0
            && let Verdict::Duplicate { base_offset, timestamp } =
                self.producers.borrow().check(&header, Origin::Client)?
        {
            return Ok(self.duplicate(base_offset, if self.has_broker_time() { timestamp } else { -1 }));
        }
        if self.needs_verification(&header) {
            let producer = (header.producer_id, header.producer_epoch);
            self.check_guard(producer, header.base_sequence, guard)?;
        }
        store.check_disk()?;
        let appended = self.place(store, batch.into_inner(), now_ms, None)?;
        if guard.is_some() {
            self.verifications.borrow_mut().void(header.producer_id);
        }
        Ok(appended)
    }

    fn has_broker_time(&self) -> bool {
        self.config.borrow().message_timestamp_type == TimestampType::LogAppendTime
    }

    /// Appends a batch of this broker's own making, which a coordinator answers for.
    pub fn append_internal(
        &self,
        store: &ShardLog,
        records: BytesMut,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.check_writable(store)?;
        let header = batch::check_stored(&records)?;
        if header.has_producer_id() {
            self.producers.borrow().check(&header, Origin::Coordinator)?;
        }
        self.place(store, ProducedBatch { bytes: records, header }, now_ms, None)
    }

    /// Ends a producer's transaction here, if it has one, and fences its older epochs. May be repeated.
    pub fn append_end(&self, store: &ShardLog, end: EndOfTxn, now_ms: i64) -> Result<Appended, AppendError> {
        self.check_writable(store)?;
        let EndOfTxn { producer_id, producer_epoch, marker, version } = end;
        self.producers.borrow().check_end(producer_id, producer_epoch, marker, version)?;
        let records = control::encode(marker, producer_id, producer_epoch, now_ms);
        self.verifications.borrow_mut().void(producer_id);
        self.place(store, ProducedBatch::parse(records)?, now_ms, Some(marker))
    }

    fn check_writable(&self, store: &ShardLog) -> Result<(), AppendError> {
        if let Some(reason) = self.log.needs_repair() {
            return Err(AppendError::NeedsRepair(reason));
        }
        match store.journal().failed() {
            Some(reason) => Err(AppendError::JournalFailed(reason)),
            None => Ok(()),
        }
    }

    /// Gives a checked batch its place.
    fn place(
        &self,
        store: &ShardLog,
        mut batch: ProducedBatch,
        now_ms: i64,
        end: Option<EndMarker>,
    ) -> Result<Appended, AppendError> {
        let broker_time = self.has_broker_time();
        if broker_time {
            batch.set_log_append_time(now_ms);
        }
        let base_offset = self.log.end_offset();
        batch.place(base_offset, self.leader_epoch.get());
        let ProducedBatch { bytes, header } = batch;
        let lsn = store.append(&self.log, &header, bytes.freeze())?;
        match end {
            Some(marker) => self.producers.borrow_mut().record_end(&header, marker, now_ms),
            None => self.producers.borrow_mut().record(&header, now_ms),
        }
        Ok(Appended {
            base_offset,
            log_append_time: if broker_time { now_ms } else { -1 },
            log_start_offset: self.log.start_offset(),
            lsn: self.note_appended(lsn, self.config.borrow().write_caching),
        })
    }

    /// A retry is acknowledged no earlier than the batch it repeats.
    fn duplicate(&self, base_offset: i64, log_append_time: i64) -> Appended {
        let undurable = self.undurable.borrow();
        let lsn = undurable.iter().find(|(_, end)| *end > base_offset).map(|(lsn, _)| *lsn);
        Appended { base_offset, log_append_time, log_start_offset: self.log.start_offset(), lsn }
    }

    fn note_appended(&self, lsn: Lsn, write_caching: bool) -> Option<Lsn> {
        let end = self.log.end_offset();
        if write_caching {
            self.advance_high_watermark(end);
            return None;
        }
        self.undurable.borrow_mut().push_back((lsn, end));
        Some(lsn)
    }

    /// Whether appended batches wait for a commit.
    pub fn is_undurable(&self) -> bool {
        !self.undurable.borrow().is_empty()
    }

    /// More is on disk, as `is_durable` tells: the high watermark follows.
    pub fn on_durable(&self, is_durable: impl Fn(Lsn) -> bool) {
        let mut end = None;
        let mut undurable = self.undurable.borrow_mut();
        while let Some((first, offset)) = undurable.front().copied()
            && is_durable(first)
        {
            end = Some(offset);
            undurable.pop_front();
        }
        drop(undurable);
        if let Some(end) = end {
            self.advance_high_watermark(end);
        }
    }

    fn advance_high_watermark(&self, to: i64) {
        if to <= self.high_watermark.get() {
            return;
        }
        self.high_watermark.set(to);
        self.producers.borrow_mut().transactions_mut().settle(to);
        self.watchers.borrow_mut().retain(|watcher| {
            let fire = watcher.above < to;
            if fire {
                watcher.waiting.fire();
            }
            !fire && !watcher.waiting.is_over()
        });
    }

    /// Fires `waiting` once the high watermark is above `above`, or the partition goes away.
    pub fn watch(&self, above: i64, waiting: Rc<dyn Waiting>) {
        if self.high_watermark.get() > above {
            return waiting.fire();
        }
        let mut watchers = self.watchers.borrow_mut();
        watchers.push(Watcher { above, waiting });
        if watchers.len() >= self.purge_at.get() {
            watchers.retain(|watcher| !watcher.waiting.is_over());
            self.purge_at.set((watchers.len() * 2).max(WATCHERS_UNPURGED));
        }
    }

    /// The partition is going away: nobody is left waiting.
    pub fn retire(&self) {
        for watcher in self.watchers.take() {
            watcher.waiting.fire();
        }
    }
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
