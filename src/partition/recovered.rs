//! The producers of a partition that recovery has found.

use super::producer::Producers;
use crate::log::RecoveredPartition;
use crate::rt;

/// The checkpoint's, and those of the batches after it.
pub fn recovered_producers(recovered: &RecoveredPartition) -> Producers {
    let snapshot = recovered.producer_state.as_ref().map(|(_, state)| state.as_slice());
    Producers::rebuild(snapshot, &recovered.replayed, rt::wall())
}

/// The same as a checkpoint keeps them; `None` if there are none.
pub fn recovered_snapshot(recovered: &RecoveredPartition) -> Option<Vec<u8>> {
    let producers = recovered_producers(recovered);
    (!producers.is_empty()).then(|| producers.snapshot())
}
