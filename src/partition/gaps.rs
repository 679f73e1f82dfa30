//! Gaps in a producer's sequences that are nobody's loss. A client has several batches under way. Where the first of them finds no
//! leader yet, or too few replicas, and the next one does, that one comes out of sequence; and so does one that reaches a new leader
//! before the old one has turned away those before it. Kafka says OUT_OF_ORDER_SEQUENCE_NUMBER, upon which librdkafka begins a new
//! epoch and sends again in it whatever else was not answered yet: those batches are in the log twice then. Here the client is told to
//! try again, which it does in order.

use super::Replica;
use super::appended::AppendError;
use super::producer::ProducerError;
use crate::model::{LeaderEpoch, MonoMs};

/// As long as clients wait for an answer of a leader that is gone, by default. A gap that is still there then is one.
const SETTLES_MS: i64 = 30_000;

impl Replica {
    /// A leader's term begins: the last one's clients may have batches under way.
    pub(super) fn unsettle_sequences(&self, epoch: LeaderEpoch, now: MonoMs) {
        if epoch > LeaderEpoch::ZERO {
            self.gaps_until.set(MonoMs(now.0 + SETTLES_MS));
        }
    }

    /// What a client's batch is refused with, by what was refused before it.
    pub fn refuse(&self, error: AppendError, now: MonoMs) -> AppendError {
        match error {
            AppendError::Producer(ProducerError::OutOfOrder { got, last })
                if last >= 0 && got > last && now < self.gaps_until.get() =>
            {
                AppendError::AfterRefused { got, last }
            }
            AppendError::NotEnoughReplicas | AppendError::DiskFull(_) => {
                self.gaps_until.set(MonoMs(now.0 + SETTLES_MS));
                error
            }
            error => error,
        }
    }
}
