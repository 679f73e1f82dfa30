//! That a transaction's coordinator knows of this partition, before the transaction's first batch is appended (KIP-890).
//!
//! Asking the coordinator takes a while, and a marker may be appended meanwhile: what was learnt is then about a
//! transaction that has ended. So a guard is taken before asking, an end of the producer's transaction voids it, and a
//! first batch needs one that is valid. The smallest sequence that was asked about has to come first: where nothing is
//! known of a producer any sequence would do, and a batch whose question failed could be overtaken. Pure.

use std::collections::BTreeMap;

use crate::model::{Producer, ProducerEpoch, ProducerId};

/// Producers that are being asked about at once; more of them are refused, and retry.
const MOST: usize = 100_000;

/// Proof that nothing ended between the question and the append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard(u64);

impl Guard {
    /// For where nobody has to be asked; no question has this number.
    pub const WAIVED: Guard = Guard(0);
}

/// What a guard is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    Valid,
    /// An earlier batch was asked about, and has to come first.
    TooEarly,
    Void,
}

#[derive(Default)]
pub(super) struct Verifications {
    last: u64,
    questions: BTreeMap<ProducerId, Question>,
}

struct Question {
    epoch: ProducerEpoch,
    guard: Guard,
    lowest_sequence: i32,
    /// How many wait for the answer. At none the question is kept, for its sequence, until the batch has come.
    askers: usize,
}

impl Verifications {
    /// `None`: too many already.
    pub(super) fn begin(&mut self, Producer { id, epoch }: Producer, sequence: i32) -> Option<Guard> {
        if self.questions.len() >= MOST && !self.questions.contains_key(&id) {
            self.forget_idle();
        }
        if self.questions.len() >= MOST {
            return None;
        }
        self.last += 1;
        let fresh = Question { epoch, guard: Guard(self.last), lowest_sequence: sequence, askers: 0 };
        let question = self.questions.entry(id).or_insert(Question { ..fresh });
        if question.epoch < epoch {
            *question = fresh;
        }
        question.askers += 1;
        question.lowest_sequence = question.lowest_sequence.min(sequence);
        Some(question.guard)
    }

    pub(super) fn worth(&self, Producer { id, epoch }: Producer, sequence: i32, guard: Guard) -> Worth {
        match self.questions.get(&id) {
            Some(q) if q.guard != guard || q.epoch != epoch => Worth::Void,
            Some(q) if sequence > q.lowest_sequence => Worth::TooEarly,
            Some(_) => Worth::Valid,
            None => Worth::Void,
        }
    }

    /// One who asked is done, whatever the answer was.
    pub(super) fn done(&mut self, id: ProducerId, guard: Guard) {
        if let Some(question) = self.questions.get_mut(&id).filter(|q| q.guard == guard) {
            question.askers -= 1;
        }
    }

    /// The first batch was appended, or the producer's transaction ended here: what was learnt before is void.
    pub(super) fn void(&mut self, id: ProducerId) {
        self.questions.remove(&id);
    }

    /// Whatever was learnt is void. Numbers go on: no guard of before is valid again.
    pub(super) fn void_all(&mut self) {
        self.questions.clear();
    }

    /// Forgets questions whose batches never came.
    pub(super) fn forget_idle(&mut self) {
        self.questions.retain(|_, question| question.askers > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Producer = Producer { id: ProducerId(1), epoch: ProducerEpoch(0) };
    const LATER: Producer = Producer { epoch: ProducerEpoch(1), ..ONE };
    const OTHER: Producer = Producer { id: ProducerId(2), ..ONE };

    #[test]
    fn an_end_voids_what_was_asked_before_it() {
        let mut asked = Verifications::default();
        let first = asked.begin(ONE, 0).unwrap();
        assert_eq!(asked.begin(ONE, 1), Some(first), "two batches may ask about the same transaction");
        assert_eq!(asked.worth(ONE, 0, first), Worth::Valid);
        assert_eq!([asked.worth(LATER, 0, first), asked.worth(OTHER, 0, first)], [Worth::Void; 2]);
        asked.void(ONE.id);
        assert_eq!(asked.worth(ONE, 0, first), Worth::Void);
        let second = asked.begin(ONE, 0).unwrap();
        asked.done(ONE.id, first);
        assert_eq!(asked.worth(ONE, 0, second), Worth::Valid);
        let bumped = asked.begin(LATER, 0).unwrap();
        assert_eq!((asked.worth(LATER, 0, bumped), asked.worth(ONE, 0, second)), (Worth::Valid, Worth::Void));
    }

    #[test]
    fn a_batch_does_not_overtake_one_that_was_refused() {
        let mut asked = Verifications::default();
        let first = asked.begin(ONE, 5).unwrap();
        asked.done(ONE.id, first);
        let second = asked.begin(ONE, 6).unwrap();
        assert_eq!(asked.worth(ONE, 6, second), Worth::TooEarly);
        assert_eq!(asked.worth(ONE, 5, second), Worth::Valid);
        asked.done(ONE.id, second);
        asked.forget_idle();
        assert!(asked.questions.is_empty());
        let third = asked.begin(ONE, 0).unwrap();
        asked.void_all();
        let fourth = asked.begin(ONE, 0).unwrap();
        assert_eq!((asked.worth(ONE, 0, third), asked.worth(ONE, 0, fourth)), (Worth::Void, Worth::Valid));
    }
}
