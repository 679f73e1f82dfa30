//! Lsns that were given out before the entries that make good on them.

use std::collections::VecDeque;

use crate::log::Lsn;

struct Promise {
    lsn: Lsn,
    /// The last entry before it.
    behind: Lsn,
    /// The entry that keeps it.
    kept: Option<Lsn>,
}

#[derive(Default)]
pub struct Promises {
    /// Sorted by lsn.
    given: VecDeque<Promise>,
    /// The last one that was kept with all before it, and the last entry before it.
    reached: (Lsn, Lsn),
}

impl Promises {
    /// `lsn` is not below any that was given before, and past the entry at `behind`.
    pub fn give(&mut self, lsn: Lsn, behind: Lsn) {
        self.given.push_back(Promise { lsn, behind, kept: None });
    }

    /// Once everything up to `entry` is on disk, so is what was promised at `lsn`.
    pub fn keep(&mut self, lsn: Lsn, entry: Lsn) {
        let from = self.given.partition_point(|promise| promise.lsn < lsn);
        let open = self.given.range_mut(from..).find(|promise| promise.lsn == lsn && promise.kept.is_none());
        open.expect("a promise is kept once").kept = Some(entry);
    }

    /// Whether what was promised at `lsn` is on disk, if entries are up to `durable`.
    pub fn is_kept(&self, lsn: Lsn, durable: Lsn) -> bool {
        let from = self.given.partition_point(|promise| promise.lsn < lsn);
        let mut its = self.given.range(from..).take_while(|promise| promise.lsn == lsn);
        its.all(|promise| promise.kept.is_some_and(|entry| entry <= durable))
    }

    /// Up to where all is on disk, if entries are up to `durable`.
    pub fn durable(&mut self, durable: Lsn) -> Lsn {
        while let Some(promise) = self.given.pop_front_if(|p| p.kept.is_some_and(|entry| entry <= durable)) {
            self.reached = (promise.lsn, promise.behind);
        }
        let (reached, behind) = self.reached;
        let all = if behind <= durable { durable.max(reached) } else { durable };
        self.given.front().map_or(all, |open| all.min(Lsn(open.lsn.0 - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_durable_past_a_promise_that_is_not_kept() {
        let mut promises = Promises::default();
        assert_eq!(promises.durable(Lsn(50)), Lsn(50));
        for lsn in [101, 102, 102] {
            promises.give(Lsn(lsn), Lsn(100));
        }
        assert_eq!(promises.durable(Lsn(90)), Lsn(90));
        assert_eq!(promises.durable(Lsn(500)), Lsn(100));
        promises.keep(Lsn(102), Lsn(300));
        assert_eq!(promises.durable(Lsn(500)), Lsn(100));
        assert!(!promises.is_kept(Lsn(101), Lsn(500)) && !promises.is_kept(Lsn(102), Lsn(500)));
        promises.keep(Lsn(101), Lsn(600));
        assert_eq!(promises.durable(Lsn(500)), Lsn(100));
        assert_eq!(promises.durable(Lsn(600)), Lsn(101), "another has the lsn that one kept");
        promises.keep(Lsn(102), Lsn::ZERO);
        assert!(promises.is_kept(Lsn(102), Lsn(300)));
        assert_eq!(promises.durable(Lsn(600)), Lsn(600));
    }

    #[test]
    fn one_that_needs_no_entry_is_kept_with_what_is_before_it() {
        let mut promises = Promises::default();
        promises.give(Lsn(101), Lsn(100));
        promises.keep(Lsn(101), Lsn::ZERO);
        assert_eq!(promises.durable(Lsn(90)), Lsn(90), "entries before it are not on disk");
        assert_eq!(promises.durable(Lsn(100)), Lsn(101));
    }
}
