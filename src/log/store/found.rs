//! A partition while its shard is recovered.

use std::rc::Rc;
use std::sync::Arc;

use crate::log::checkpoint::{DamagedRange, PartitionState};
use crate::log::{Lsn, PartitionLog};
use crate::model::PartitionId;
use crate::wire::batch::BatchHeader;
use crate::wire::control::EndMarker;

use super::{Held, RecoveredPartition};

pub(super) struct Found {
    pub(super) log: Rc<PartitionLog>,
    pub(super) topic: String,
    /// The log end that the checkpoint promises.
    pub(super) promised_end: i64,
    pub(super) producers: Option<(i64, Vec<u8>)>,
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
}

impl Found {
    pub(super) fn new(log: Rc<PartitionLog>, topic: String, seen: i64) -> Self {
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
            high_watermark: self.high_watermark.min(self.log.end_offset()),
            repair: repair.clone(),
        };
        let (topic, damaged) = (self.topic, self.damaged.into());
        let promised_end = if repair.is_some() { self.promised_end } else { 0 };
        (Held { log: self.log, topic, repair, promised_end, damaged, frozen: self.frozen }, recovered)
    }
}
