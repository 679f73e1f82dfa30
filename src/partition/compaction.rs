//! What compaction of a partition has to respect, and what it leaves behind.

use super::Replica;
use crate::log::compact::{AbortedTransaction, Bounds};

impl Replica {
    /// As things stand now: taken anew for each pass.
    pub fn compaction_bounds(&self) -> Bounds {
        let limit = self.last_stable_offset();
        let mut producers = self.producers.borrow_mut();
        producers.transactions_mut().cut(self.log.start_offset());
        let aborted = producers.transactions().aborted().map(|a| AbortedTransaction {
            producer_id: a.producer_id,
            first_offset: a.first_offset,
            last_offset: a.last_offset,
        });
        Bounds { limit, aborted: aborted.collect(), last_batches: producers.last_batches().collect() }
    }

    /// Nothing of the aborted transactions with these markers is left: readers need not be told of them, and must not
    /// be once the markers are gone too.
    pub fn forget_aborted(&self, markers: &[i64]) {
        self.producers.borrow_mut().transactions_mut().forget(markers);
    }
}
