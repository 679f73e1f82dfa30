//! What a session knows of its partitions, and which of them have something new.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::partition::ReadError;
use crate::partition::peer::Report;
use crate::wire::fetch::FetchPartitionReply;

/// Partitions of one session.
const MOST_SLOTS: usize = 1 << 20;

pub(super) struct Slot {
    pub(super) id: PartitionId,
    /// Where the follower said that it is.
    pub(super) report: Report,
    pub(super) max_bytes: usize,
    /// Counts mentions.
    pub(super) mention: u64,
    /// Epochs that it does not have.
    pub(super) starts: Vec<(LeaderEpoch, Offset)>,
    /// What is to be told in place of batches.
    pub(super) instead: Option<Instead>,
    /// High watermark and log start that the follower was told.
    pub(super) told: Option<(Offset, Offset)>,
    pub(super) queued: bool,
    pub(super) asleep: bool,
}

#[derive(Clone)]
pub(super) enum Instead {
    Diverging(LeaderEpoch, Offset),
    Failed(ReadError),
}

pub(super) enum Answered {
    Nothing,
    /// There is no room for it.
    Later,
    Reply(PartitionId, FetchPartitionReply),
}

#[derive(Default)]
pub(super) struct Slots {
    pub(super) by_id: BTreeMap<PartitionId, usize>,
    pub(super) all: Vec<Option<Slot>>,
    pub(super) free: Vec<usize>,
    /// Those with something new, each once.
    pub(super) dirty: VecDeque<usize>,
}

impl Slots {
    pub(super) fn queue(&mut self, at: usize) {
        if let Some(slot) = self.all[at].as_mut().filter(|slot| !slot.queued && !slot.asleep) {
            slot.queued = true;
            self.dirty.push_back(at);
        }
    }

    /// `None`: there are too many; it is asked for again when there are less.
    pub(super) fn put(&mut self, mut slot: Slot) -> Option<usize> {
        if let Some(at) = self.by_id.get(&slot.id).copied() {
            if let Some(known) = &self.all[at] {
                (slot.told, slot.queued) = (known.told, known.queued);
            }
            self.all[at] = Some(slot);
            return Some(at);
        }
        if self.by_id.len() >= MOST_SLOTS {
            return None;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() - 1
        });
        self.by_id.insert(slot.id, at);
        self.all[at] = Some(slot);
        Some(at)
    }

    pub(super) fn remove(&mut self, id: PartitionId) {
        if let Some(at) = self.by_id.remove(&id) {
            self.all[at] = None;
            self.dirty.retain(|dirty| *dirty != at);
            self.free.push(at);
        }
    }
}
