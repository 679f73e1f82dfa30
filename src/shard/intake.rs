//! What producers wait for before their batches are appended: those who came earlier, and memory.

use std::cell::RefCell;

use crate::model::{PartitionId, ProducerId};
use crate::rt::Turnstiles;
use crate::wire::ProducedBatch;
use crate::wire::validate::{Effort, Rules, Sound, Unsound};

#[derive(Default)]
pub(super) struct Intake {
    /// Whoever waits for memory.
    pub(super) memory: Turnstiles<()>,
    /// Partitions with batches that are looked into elsewhere, and with those behind.
    pub(super) partitions: Turnstiles<PartitionId>,
    /// Batches that wait for the codec thread.
    pub(super) codec: Turnstiles<()>,
    /// Transactional producers of which a request waits for its coordinator's word.
    pub(super) producers: Turnstiles<ProducerId>,
    /// Memory of what is looked into at once.
    scratch: RefCell<Vec<u8>>,
}

impl Intake {
    /// Looks into a batch as far as that is little work.
    pub(super) fn check_lightly(&self, batch: ProducedBatch, rules: &Rules) -> Result<Sound, Unsound> {
        Sound::check(batch, rules, Effort::Light, &mut self.scratch.borrow_mut())
    }
}
