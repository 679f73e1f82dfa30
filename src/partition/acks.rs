//! Acknowledgements of one partition: who waits for which offset, and for what of it.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::waits::{Failure, Ticket, Waits};
use crate::model::Offset;

/// What has to be before an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nothing.
    None,
    /// The leader's disk has it (acks=1).
    Leader,
    /// It is committed (acks=all).
    All,
}

struct Waiter {
    end: Offset,
    ticket: Ticket,
}

/// Waits for one kind of progress, by offset.
#[derive(Default)]
struct Queue(RefCell<VecDeque<Waiter>>);

impl Queue {
    fn push(&self, waiter: Waiter) {
        let mut waiters = self.0.borrow_mut();
        // But for retries, who comes later waits for more.
        match waiters.back() {
            Some(last) if last.end > waiter.end => {
                let at = waiters.partition_point(|other| other.end <= waiter.end);
                waiters.insert(at, waiter);
            }
            _ => waiters.push_back(waiter),
        }
    }

    fn settle(&self, to: Offset, outcome: impl Fn() -> Result<(), Failure>, waits: &Waits) {
        let mut waiters = self.0.borrow_mut();
        while let Some(waiter) = waiters.pop_front_if(|waiter| waiter.end <= to) {
            waits.settle(waiter.ticket, outcome());
        }
    }

    fn fail(&self, why: Failure, waits: &Waits) {
        self.0.borrow_mut().drain(..).for_each(|waiter| waits.settle(waiter.ticket, Err(why)));
    }
}

/// See the module's page.
#[derive(Default)]
pub(super) struct Waiters {
    durable: Queue,
    committed: Queue,
}

impl Waiters {
    /// `ticket` waits until what ends at `end` counts as much as `acks` asks for.
    pub(super) fn push(&self, acks: Acks, end: Offset, ticket: Ticket) {
        match acks {
            Acks::None => {}
            Acks::Leader => self.durable.push(Waiter { end, ticket }),
            Acks::All => self.committed.push(Waiter { end, ticket }),
        }
    }

    pub(super) fn on_durable(&self, end: Offset, waits: &Waits) {
        self.durable.settle(end, || Ok(()), waits);
    }

    pub(super) fn on_committed(
        &self,
        high_watermark: Offset,
        outcome: impl Fn() -> Result<(), Failure>,
        waits: &Waits,
    ) {
        self.committed.settle(high_watermark, outcome, waits);
    }

    /// What everybody waits for will not be.
    pub(super) fn fail(&self, why: Failure, waits: &Waits) {
        for queue in [&self.durable, &self.committed] {
            queue.fail(why, waits);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::partition::waits::Due;

    #[test]
    fn whoever_waits_for_less_is_told_first_whenever_he_came() {
        let (waits, waiters) = (Rc::new(Waits::default()), Waiters::default());
        let wait = waits.begin(Due::NEVER);
        // The third repeats what the first sent.
        for (entry, end, acks) in [
            (0, 5, Acks::All),
            (1, 9, Acks::All),
            (2, 5, Acks::All),
            (3, 7, Acks::Leader),
            (4, 9, Acks::None),
        ] {
            if acks != Acks::None {
                waits.expect(wait.ticket(entry));
            }
            waiters.push(acks, Offset(end), wait.ticket(entry));
        }
        let left = || {
            let mut left = Vec::new();
            wait.failures(|entry, why| left.push((entry, why)));
            left
        };
        let unsettled = |entries: &[usize]| -> Vec<_> {
            entries.iter().map(|entry| (*entry, Failure::Unsettled)).collect()
        };
        waiters.on_committed(Offset(4), || Ok(()), &waits);
        waiters.on_durable(Offset(6), &waits);
        assert_eq!(left(), unsettled(&[0, 1, 2, 3]));
        waiters.on_committed(Offset(5), || Ok(()), &waits);
        assert_eq!(left(), unsettled(&[1, 3]));
        waiters.on_durable(Offset(9), &waits);
        assert_eq!(left(), unsettled(&[1]), "what is durable here is not committed by that");
        waiters.fail(Failure::Deposed, &waits);
        waiters.on_committed(Offset(9), || Ok(()), &waits);
        assert_eq!(left(), [(1, Failure::Deposed)]);
    }
}
