//! A partition while its shard is recovered.

use std::rc::Rc;
use std::sync::Arc;

use crate::log::formats::checkpoint::PartitionState;
use crate::log::resources::damage::DamagedRange;
use crate::log::{LogError, Lsn, PartitionLog, Producers};
use crate::model::{Offset, PartitionId};
use crate::wire::batch::BatchHeader;
use crate::wire::control::EndMarker;

use super::held::{Held, RecoveredPartition};
use super::history::{History, Left};

pub(super) struct Found {
    pub(super) log: Rc<PartitionLog>,
    pub(super) topic: Arc<str>,
    /// The log end that the checkpoint promises.
    pub(super) promised_end: i64,
    pub(super) producers: Option<(Offset, Vec<u8>)>,
    pub(super) high_watermark: i64,
    pub(super) replayed: Vec<(BatchHeader, Option<EndMarker>)>,
    /// The last entry that followed on.
    pub(super) last: Lsn,
    /// The offset up to which the checkpoint and the entries so far follow on each other.
    pub(super) seen: i64,
    pub(super) repair: Option<String>,
    pub(super) newly_marked: bool,
    pub(super) damaged: Vec<DamagedRange>,
    pub(super) frozen: Option<Box<PartitionState>>,
    /// What the journal says beside batches.
    pub(super) history: History,
    /// Producers' state of the checkpoint is of records that were cut off: it is made again of the log.
    pub(super) producers_cut: bool,
}

impl Found {
    pub(super) fn new(log: Rc<PartitionLog>, topic: Arc<str>, seen: i64) -> Self {
        Self {
            log,
            topic,
            promised_end: 0,
            producers: None,
            high_watermark: 0,
            replayed: Vec::new(),
            last: Lsn::ZERO,
            seen,
            repair: None,
            newly_marked: false,
            damaged: Vec::new(),
            frozen: None,
            history: History::default(),
            producers_cut: false,
        }
    }

    pub(super) fn mark(&mut self, id: PartitionId, why: String) {
        if self.repair.is_none() {
            log::error!("{}-{} needs repair: {why}", self.topic, id.index);
            self.repair = Some(why);
            self.newly_marked = true;
        }
    }
}

impl Found {
    /// Takes what the journal says that came after the checkpoint of the entry at `lsn` into account.
    pub(super) fn follow_history(&mut self, history: History, lsn: Lsn) {
        self.promised_end = history.promised(self.promised_end, lsn);
        match history.cut_after(lsn) {
            Some(Left::Below(Offset(to))) => {
                self.log.forget_snapshots(to);
                self.damaged.retain(|range| range.from < to);
                self.damaged.iter_mut().for_each(|range| range.until = range.until.min(to));
                self.high_watermark = self.high_watermark.min(self.promised_end);
                self.producers_cut = self.producers.as_ref().is_some_and(|(covered, _)| covered.0 > to);
            }
            Some(Left::Nothing) => {
                self.log.list_snapshots(Vec::new());
                self.damaged.clear();
                self.repair = None;
                self.high_watermark = 0;
                self.producers_cut = true;
            }
            None => {}
        }
        // A checkpoint that was made in the middle of a cut has the state from before it.
        let end = self.promised_end;
        self.producers_cut |= self.producers.as_ref().is_some_and(|(covered, _)| covered.0 > end);
        self.history = history;
    }

    /// Once everything was replayed: makes producers' state again where it has to be, and lets go of epochs whose batches
    /// did not come back.
    pub(super) async fn complete(&mut self) -> Result<(), LogError> {
        self.log.bound_epochs();
        if self.producers_cut && self.frozen.is_none() {
            let Producers { snapshot, replayed } = self.log.producers().await?;
            (self.producers, self.replayed) = (snapshot, replayed);
        }
        Ok(())
    }

    /// What the shard keeps of it, and what it tells of it.
    pub(super) fn settle(self, id: PartitionId) -> (Held, RecoveredPartition) {
        let repair: Option<Arc<str>> = self.repair.map(Into::into);
        if let Some(why) = &repair {
            self.log.mark_for_repair(why.clone());
        }
        let recovered = RecoveredPartition {
            id,
            log: self.log.clone(),
            producer_state: self.producers,
            replayed: self.replayed,
            high_watermark: Offset(self.high_watermark)
                .min(self.log.end_offset())
                .max(self.log.start_offset()),
            repair: repair.clone(),
        };
        let Self { log, topic, promised_end, damaged, frozen, .. } = self;
        (Held::recovered(log, topic, repair, promised_end, damaged, frozen), recovered)
    }
}
