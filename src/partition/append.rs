//! Appending: what a batch is held against before it gets its place.

use bytes::BytesMut;

use super::Replica;
use super::appended::{AppendError, Appended, EndOfTxn};
use super::assignment::Role;
use super::producer::{Origin, Verdict};
use super::verification::Guard;
use crate::log::ShardLog;
use crate::model::topic_config::TimestampType;
use crate::model::{Offset, WallMs};
use crate::wire::ProducedBatch;
use crate::wire::batch;
use crate::wire::control::{self, EndMarker};
use crate::wire::validate::{Rules, Sound};

impl Replica {
    /// What batches are checked by before they come here.
    pub fn rules(&self, now: WallMs) -> Rules {
        Rules::new(&self.config.borrow(), now.0)
    }

    /// Gives a produced batch its place and queues it for the journal. On success it is in memory, ordered, and
    /// acknowledged as [`Self::acknowledge`] says.
    ///
    /// The first batch of a transaction needs a guard, taken before its coordinator said that it knows of it.
    pub fn append(
        &self,
        store: &ShardLog,
        batch: Sound,
        now: WallMs,
        guard: Option<Guard>,
    ) -> Result<Appended, AppendError> {
        self.check_writable(store)?;
        let header = *batch.header();
        if header.has_producer_id()
            && let Verdict::Duplicate { base_offset, timestamp } =
                self.producers.borrow().check(&header, Origin::Client)?
        {
            // A retry is acknowledged no earlier than the batch that it repeats.
            return Ok(Appended {
                base_offset,
                log_append_time: self.has_broker_time().then_some(WallMs(timestamp)),
                log_start_offset: self.log.start_offset(),
                end: Offset(base_offset.0 + i64::from(header.last_offset_delta) + 1),
            });
        }
        if let Some(producer) = header.producer().filter(|_| self.needs_verification(&header)) {
            self.check_guard(producer, header.base_sequence, guard)?;
        }
        store.check_disk()?;
        let appended = self.place(store, batch.into_inner(), now, None)?;
        if let Some(producer) = header.producer().filter(|_| guard.is_some()) {
            self.verifications.borrow_mut().void(producer.id);
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
        now: WallMs,
    ) -> Result<Appended, AppendError> {
        self.check_writable(store)?;
        let header = batch::check_stored(&records)?;
        self.producers.borrow().check(&header, Origin::Coordinator)?;
        self.place(store, ProducedBatch { bytes: records, header }, now, None)
    }

    /// Ends a producer's transaction here, if it has one, and fences its older epochs. May be repeated.
    pub fn append_end(&self, store: &ShardLog, end: EndOfTxn, now: WallMs) -> Result<Appended, AppendError> {
        self.check_writable(store)?;
        let EndOfTxn { producer, marker, version } = end;
        self.producers.borrow().check_end(producer, marker, version)?;
        let records = control::encode(marker, producer, now);
        self.verifications.borrow_mut().void(producer.id);
        self.place(store, ProducedBatch::parse(records)?, now, Some(marker))
    }

    fn check_writable(&self, store: &ShardLog) -> Result<(), AppendError> {
        if self.role() != Role::Leader {
            return Err(AppendError::NotLeader);
        }
        debug_assert!(!self.cutting.get(), "who leads has a whole log");
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
        now: WallMs,
        end: Option<EndMarker>,
    ) -> Result<Appended, AppendError> {
        let broker_time = self.has_broker_time();
        if broker_time {
            batch.set_log_append_time(now.0);
        }
        let base_offset = self.log.end_offset();
        batch.place(base_offset.0, self.leader_epoch().0);
        let ProducedBatch { bytes, header } = batch;
        let lsn = store.append(&self.log, &header, bytes.freeze())?;
        match end {
            Some(marker) => self.producers.borrow_mut().record_end(&header, marker, now),
            None => self.producers.borrow_mut().record(&header, now),
        }
        Ok(Appended {
            base_offset,
            log_append_time: broker_time.then_some(now),
            log_start_offset: self.log.start_offset(),
            end: self.note_appended(lsn, self.config.borrow().write_caching),
        })
    }
}
