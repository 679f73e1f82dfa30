//! What compaction of a partition has to respect, and what it leaves behind.

use super::Replica;
use crate::log::LogError;
use crate::log::compact::{AbortedTransaction, Bounds, Candidate, Passed, Policy, Work};
use crate::model::{Offset, WallMs};

impl Replica {
    /// Writes what would be sealed by now, so that it can be compacted.
    pub async fn write_what_rolls(&self) -> Result<(), LogError> {
        self.log.write_what_rolls().await
    }

    /// What is worth compacting, if anything.
    pub async fn compaction_candidate(&self, policy: &Policy, now: WallMs) -> Option<Candidate> {
        self.log.compaction_candidate(self.last_stable_offset(), policy, now).await
    }

    pub async fn compact(
        &self,
        candidate: Candidate,
        policy: &Policy,
        work: &Work<'_>,
    ) -> Result<Passed, LogError> {
        let passed = self.log.compact(candidate, self.compaction_bounds(), policy, work).await?;
        self.forget_aborted(&passed.outlived);
        Ok(passed)
    }

    /// As things stand now: taken anew for each pass.
    pub(super) fn compaction_bounds(&self) -> Bounds {
        let limit = self.last_stable_offset();
        let mut producers = self.producers.borrow_mut();
        producers.cut(self.log.start_offset());
        let aborted = producers.transactions().aborted().map(|a| AbortedTransaction {
            producer_id: a.producer_id,
            first_offset: a.first_offset,
            last_offset: a.last_offset,
        });
        Bounds { limit, aborted: aborted.collect(), last_batches: producers.last_batches().collect() }
    }

    /// Nothing of the aborted transactions with these markers is left: readers need not be told of them, and must not
    /// be once the markers are gone too.
    fn forget_aborted(&self, markers: &[Offset]) {
        self.producers.borrow_mut().forget(markers);
    }
}
