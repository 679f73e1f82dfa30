//! Where a connection's requests lead.
//!
//! A request for a partition of another shard costs two wake-ups of sleeping cores, more than its work. A connection
//! whose requests all lead to one other shard is therefore moved there, between two requests; one that has state on its
//! shard stays.

use std::cell::Cell;

/// Requests in a row that lead to the same other shard before the connection follows them.
const MOVE_AFTER: u32 = 32;

/// One connection's record of it.
#[derive(Debug, Default)]
pub struct Affinity {
    target: Cell<usize>,
    run: Cell<u32>,
    stays: Cell<bool>,
}

impl Affinity {
    /// A request for partitions of one shard only.
    pub fn lead_to(&self, shard: usize) {
        let run = if self.target.replace(shard) == shard { self.run.get().saturating_add(1) } else { 1 };
        self.run.set(run);
    }

    /// A request for partitions of several shards.
    pub fn scatter(&self) {
        self.run.set(0);
    }

    /// The connection's shard keeps something for it.
    pub fn stay(&self) {
        self.stays.set(true);
    }

    /// The shard that would serve the connection better than `here`, whose number of connections `open` lists with
    /// the others': a crowd does not gather on one core.
    pub fn destination(&self, here: usize, open: impl Iterator<Item = usize> + Clone) -> Option<usize> {
        let target = self.target.get();
        if self.stays.get() || target == here || self.run.get() < MOVE_AFTER {
            return None;
        }
        let (shards, total) = (open.clone().count(), open.clone().sum::<usize>());
        let fair = total / shards.max(1);
        (open.clone().nth(target)? <= fair + fair / 4 + 1).then_some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(affinity: &Affinity, open: &[usize]) -> Option<usize> {
        affinity.destination(0, open.iter().copied())
    }

    #[test]
    fn follows_a_long_run_to_one_other_shard() {
        let affinity = Affinity::default();
        (1..MOVE_AFTER).for_each(|_| affinity.lead_to(1));
        assert_eq!(destination(&affinity, &[1, 0]), None);
        affinity.lead_to(1);
        assert_eq!(destination(&affinity, &[1, 0]), Some(1));
        affinity.lead_to(0);
        assert_eq!(destination(&affinity, &[1, 0]), None);
    }

    #[test]
    fn requests_that_scatter_or_leave_state_do_not_move() {
        let affinity = Affinity::default();
        (0..MOVE_AFTER).for_each(|_| affinity.lead_to(1));
        affinity.scatter();
        assert_eq!(destination(&affinity, &[1, 0]), None);
        (0..MOVE_AFTER).for_each(|_| affinity.lead_to(1));
        affinity.stay();
        assert_eq!(destination(&affinity, &[1, 0]), None);
    }

    #[test]
    fn a_crowd_does_not_gather() {
        let affinity = Affinity::default();
        (0..MOVE_AFTER).for_each(|_| affinity.lead_to(1));
        assert_eq!(destination(&affinity, &[16, 21]), Some(1));
        assert_eq!(destination(&affinity, &[10, 30]), None);
    }
}
