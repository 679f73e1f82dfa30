//! One partition as its shard holds it, and as recovery tells of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::log::PartitionLog;
use crate::log::formats::checkpoint::PartitionState;
use crate::log::partition::changed::List;
use crate::log::resources::damage::DamagedRange;
use crate::model::{Offset, PartitionId};
use crate::wire::batch::BatchHeader;
use crate::wire::control::EndMarker;

/// A partition as recovery found it.
pub struct RecoveredPartition {
    pub id: PartitionId,
    pub log: Rc<PartitionLog>,
    /// The producers' state in the checkpoint and the offset up to which it accounts for batches.
    pub producer_state: Option<(Offset, Vec<u8>)>,
    /// The batches past that offset, in order, with what those that end a transaction say.
    pub replayed: Vec<(BatchHeader, Option<EndMarker>)>,
    pub high_watermark: Offset,
    /// Why the partition must not lead: durable data of it is missing.
    pub repair: Option<Arc<str>>,
}

/// What a checkpoint has of a partition that its owner knows.
#[derive(Clone, Debug, Default)]
pub struct OwnerState {
    /// Producers' state and the offset up to which it accounts for batches: the log end, or past it where the log is being cut
    /// and the owner has not followed. `None` for no producers.
    pub producers: Option<(Offset, Vec<u8>)>,
    /// `None`: the log end.
    pub high_watermark: Option<Offset>,
}

impl From<Option<(Offset, Vec<u8>)>> for OwnerState {
    fn from(producers: Option<(Offset, Vec<u8>)>) -> Self {
        Self { producers, high_watermark: None }
    }
}

pub type States<'a> = dyn Fn(PartitionId) -> OwnerState + 'a;

/// A partition's log, and what was found wrong with it.
pub struct Held {
    log: Rc<PartitionLog>,
    topic: Arc<str>,
    repair: Option<Arc<str>>,
    /// Where the log ended before something was lost, for as long as it is marked for repair.
    promised_end: i64,
    damaged: RefCell<Vec<DamagedRange>>,
    /// The log could not be opened: what the last checkpoint said of it stays as it is.
    frozen: Option<Box<PartitionState>>,
}

impl Held {
    /// A new partition; `repair` says why it cannot be served.
    pub fn created(log: Rc<PartitionLog>, topic: Arc<str>, repair: Option<Arc<str>>) -> Self {
        Self { log, topic, repair, promised_end: 0, damaged: RefCell::default(), frozen: None }
    }

    /// As a start found it. `promised_end` counts while it is marked for repair.
    pub fn recovered(
        log: Rc<PartitionLog>,
        topic: Arc<str>,
        repair: Option<Arc<str>>,
        promised_end: i64,
        damaged: Vec<DamagedRange>,
        frozen: Option<Box<PartitionState>>,
    ) -> Self {
        let promised_end = if repair.is_some() { promised_end } else { 0 };
        Self { log, topic, repair, promised_end, damaged: damaged.into(), frozen }
    }

    pub fn log(&self) -> &Rc<PartitionLog> {
        &self.log
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Why the partition must not lead, if so.
    pub fn repair(&self) -> Option<&Arc<str>> {
        self.repair.as_ref()
    }

    /// Whether the log could not be opened.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// What is damaged of the log from its start on.
    pub fn damaged(&self) -> Vec<DamagedRange> {
        let start = self.log.start_offset().0;
        self.damaged.borrow().iter().copied().filter(|range| range.until > start).collect()
    }

    /// Marks a damaged range; false if it is known.
    pub fn note_damaged(&self, range: DamagedRange) -> bool {
        let mut damaged = self.damaged.borrow_mut();
        let is_same =
            |known: &DamagedRange| known.segment == range.segment && known.position == range.position;
        let is_new = !damaged.iter().any(is_same);
        if is_new {
            damaged.push(range);
            self.log.touch();
        }
        is_new
    }

    /// Takes the marks off segments that were replaced; whether there were any.
    pub fn forget_replaced(&self) -> bool {
        let replaced = self.log.compaction().take_replaced();
        let mut damaged = self.damaged.borrow_mut();
        let known = damaged.len();
        damaged.retain(|range| !replaced.contains(&range.segment));
        let forgot = damaged.len() < known;
        if forgot {
            self.log.touch();
        }
        forgot
    }

    /// Somebody has looked at the partition and mended what there is.
    pub fn clear_marks(&mut self) {
        self.damaged.borrow_mut().clear();
        self.repair = None;
        self.promised_end = 0;
        self.log.touch();
    }

    /// The log was cut at `to`, or `resets` there: what was missing or damaged past it matters no more.
    pub fn cut(&mut self, to: i64, resets: bool) {
        let mut damaged = self.damaged.borrow_mut();
        damaged.retain(|range| !resets && range.from < to);
        damaged.iter_mut().for_each(|range| range.until = range.until.min(to));
        self.promised_end = if resets { 0 } else { self.promised_end.min(to) };
        if resets {
            self.repair = None;
            self.log.clear_repair();
        }
    }

    /// What a checkpoint says of it.
    pub fn state(&self, id: PartitionId, states: &States<'_>, closed: bool) -> PartitionState {
        if let Some(frozen) = &self.frozen {
            return (**frozen).clone();
        }
        let mut log = self.log.checkpoint();
        log.clean &= closed;
        let end_offset = self.log.end_offset().0.max(self.promised_end);
        let OwnerState { producers, high_watermark } = states(id);
        PartitionState {
            id,
            topic: self.topic.to_string(),
            log,
            end_offset,
            high_watermark: high_watermark.map_or(end_offset, |known| known.0.min(end_offset)),
            producers: producers.map(|(offset, state)| (offset.0, state)),
            repair: self.repair.as_ref().map(|why| why.to_string()),
            damaged: self.damaged(),
            snapshots: self.log.snapshots(),
        }
    }

    /// At a start: the log is in this list while it differs from the checkpoint, which has `known`.
    pub fn follow_changes(&self, list: &Rc<List>, known: Option<PartitionState>, found: &RecoveredPartition) {
        if !known.is_some_and(|known| self.is_as_in(&known, found)) {
            self.log.touch();
        }
        self.log.follow_changes(list);
    }

    /// Whether a checkpoint would say the same again.
    fn is_as_in(&self, known: &PartitionState, found: &RecoveredPartition) -> bool {
        let owner = |_| OwnerState { producers: None, high_watermark: Some(Offset(known.high_watermark)) };
        let mut state = self.state(known.id, &owner, true);
        // Only that of a clean close counts, and that one is of all partitions.
        state.log.clean = known.log.clean;
        let committed = known.high_watermark == known.end_offset;
        let producers = known.producers.as_ref().map(|(offset, state)| (Offset(*offset), state));
        let found_producers = found.producer_state.as_ref().map(|(offset, state)| (*offset, state));
        let owned = found.replayed.is_empty() && found_producers == producers;
        state.producers.clone_from(&known.producers);
        committed && owned && state == *known
    }
}
