//! That a transaction's coordinator knows of this partition, before the transaction's first batch is appended (KIP-890).
//!
//! Asking the coordinator takes a while, and a marker may be appended meanwhile: what was learnt is then about a
//! transaction that has ended. So a guard is taken before asking, an end of the producer's transaction voids it, and a
//! first batch needs one that is valid. Pure.

use std::collections::HashMap;

/// Producers that are being asked about at once; more of them are refused, and retry.
const MOST: usize = 100_000;

/// Proof that nothing ended between the question and the append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard(u64);

#[derive(Default)]
pub(super) struct Verifications {
    last: u64,
    /// Producer → its epoch, the guard, and how many wait for the answer.
    under_way: HashMap<i64, Question>,
}

struct Question {
    epoch: i16,
    guard: Guard,
    askers: usize,
}

impl Verifications {
    /// `None`: too many already.
    pub(super) fn begin(&mut self, producer_id: i64, epoch: i16) -> Option<Guard> {
        if self.under_way.len() >= MOST && !self.under_way.contains_key(&producer_id) {
            return None;
        }
        self.last += 1;
        let fresh = Guard(self.last);
        let question =
            self.under_way.entry(producer_id).or_insert(Question { epoch, guard: fresh, askers: 0 });
        if question.epoch < epoch {
            *question = Question { epoch, guard: fresh, askers: 0 };
        }
        question.askers += 1;
        Some(question.guard)
    }

    pub(super) fn is_valid(&self, producer_id: i64, epoch: i16, guard: Guard) -> bool {
        self.under_way.get(&producer_id).is_some_and(|q| q.guard == guard && q.epoch == epoch)
    }

    /// One who asked is done, whatever the answer was.
    pub(super) fn done(&mut self, producer_id: i64, guard: Guard) {
        if let Some(question) = self.under_way.get_mut(&producer_id).filter(|q| q.guard == guard) {
            question.askers -= 1;
            if question.askers == 0 {
                self.under_way.remove(&producer_id);
            }
        }
    }

    /// The producer's transaction ended here: what was learnt before is void.
    pub(super) fn void(&mut self, producer_id: i64) {
        self.under_way.remove(&producer_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_voids_what_was_asked_before_it() {
        let mut asked = Verifications::default();
        let first = asked.begin(1, 0).unwrap();
        assert_eq!(asked.begin(1, 0), Some(first), "two batches may ask about the same transaction");
        assert!(asked.is_valid(1, 0, first) && !asked.is_valid(1, 1, first) && !asked.is_valid(2, 0, first));
        asked.void(1);
        assert!(!asked.is_valid(1, 0, first));
        let second = asked.begin(1, 0).unwrap();
        asked.done(1, first);
        assert!(asked.is_valid(1, 0, second), "a late answer to the first question does not end the second");
        let bumped = asked.begin(1, 1).unwrap();
        assert!(asked.is_valid(1, 1, bumped) && !asked.is_valid(1, 0, second));
        asked.done(1, bumped);
        assert!(asked.under_way.is_empty());
    }
}
