//! A replica's part in transactions: what readers of committed data see of it, and the [`Guard`] that the first batch of a
//! transaction needs.

use super::Replica;
use super::appended::AppendError;
use super::producer::{Origin, ProducerError, Verdict};
use super::verification::{Guard, Worth};
use crate::model::{Offset, Producer, ProducerId};
use crate::wire::batch::BatchHeader;

impl Replica {
    /// Where readers of committed data stop: the first of the oldest transaction that is open or not durably ended, at
    /// most the high watermark.
    pub fn last_stable_offset(&self) -> Offset {
        let high_watermark = self.high_watermark();
        match self.producers.borrow().transactions().first_unstable() {
            // Records may be deleted while their transaction is open.
            Some(first) => first.max(self.log.start_offset()).min(high_watermark),
            None => high_watermark,
        }
    }

    /// What a reader of committed data has to skip in `from..to`: producers and where their transactions begin.
    pub fn aborted_in(&self, from: Offset, to: Offset) -> Vec<(ProducerId, Offset)> {
        self.producers.borrow().transactions().aborted_in(from, to)
    }

    /// Whether the producer has a transaction of this epoch open here.
    pub fn is_open(&self, producer: Producer) -> bool {
        self.producers.borrow().is_open(producer)
    }

    /// Refuses a producer that a newer one has replaced.
    pub fn check_producer(&self, producer: Producer) -> Result<(), AppendError> {
        Ok(self.producers.borrow().check_epoch(producer)?)
    }

    /// Whether a transaction's coordinator has to be asked before the batch can be appended: it would be the first
    /// of its transaction here.
    pub fn needs_verification(&self, header: &BatchHeader) -> bool {
        let producers = self.producers.borrow();
        header.is_transactional()
            && header.producer().is_some_and(|producer| !producers.is_open(producer))
            && producers.check(header, Origin::Client) == Ok(Verdict::Append)
    }

    /// Begins to ask; [`Self::end_verification`] has to follow. `None`: too many ask already.
    pub fn begin_verification(&self, producer: Producer, sequence: i32) -> Option<Guard> {
        self.verifications.borrow_mut().begin(producer, sequence)
    }

    /// Refuses a guard that an end of the producer's transaction has voided, or a batch that another has to precede.
    pub fn check_guard(
        &self,
        producer: Producer,
        sequence: i32,
        guard: Option<Guard>,
    ) -> Result<(), AppendError> {
        let guard = guard.ok_or(AppendError::NotVerified)?;
        if guard == Guard::WAIVED {
            return Ok(());
        }
        match self.verifications.borrow().worth(producer, sequence, guard) {
            Worth::Valid => Ok(()),
            Worth::TooEarly => Err(ProducerError::OutOfOrder { got: sequence, last: -1 }.into()),
            Worth::Void => Err(AppendError::NotVerified),
        }
    }

    pub fn end_verification(&self, id: ProducerId, guard: Guard) {
        self.verifications.borrow_mut().done(id, guard);
    }
}
