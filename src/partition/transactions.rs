//! The transactions of one partition: which are open, which ended, which were aborted. Pure.
//!
//! ```text
//!   log start … ├─ A: first offset ──────┤ marker (abort)        aborted: [(A, first, marker, stable)]
//!                    ├─ B: first offset ───────────── … open     first unstable offset: B's first
//! ```
//!
//! - The *first unstable offset* is the first of the oldest transaction that is open, or whose marker a crash could
//!   still take back: with the high watermark it bounds what read_committed sees (the last stable offset).
//! - The *aborted index* tells such readers what to skip below that bound. It is kept in memory in the order of the
//!   markers, stored with the producers in the shard's checkpoint, and brought up to date from the journal after a crash
//!   (`Producers::rebuild`). Not in files beside the segments, because then a third kind of file would have to be made
//!   durable in step with journal and segment, and cut in step with both at recovery; and not rebuilt from the log, because
//!   a start must not read all of it (a repair for want of a checkpoint does). The price is memory: 32 bytes for each
//!   aborted transaction whose records the log still has, which took more than ten times that on disk. Entries go when the
//!   log's start passes their marker.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{Offset, ProducerId};

/// A transaction that ended with an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// The marker's offset.
    pub last_offset: Offset,
    /// The first unstable offset right after the marker: no later entry begins before it.
    pub stable_offset: Offset,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    /// By first offset.
    open: BTreeMap<Offset, ProducerId>,
    /// First offset and marker of those that ended, in the markers' order, until the marker is durable.
    ended: VecDeque<(Offset, Offset)>,
    aborted: VecDeque<Aborted>,
}

impl Transactions {
    pub const NONE: Self = Self { open: BTreeMap::new(), ended: VecDeque::new(), aborted: VecDeque::new() };

    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.ended.is_empty() && self.aborted.is_empty()
    }

    pub fn begin(&mut self, producer_id: ProducerId, first_offset: Offset) {
        self.open.insert(first_offset, producer_id);
    }

    pub fn end(&mut self, producer_id: ProducerId, first_offset: Offset, marker: Offset, commit: bool) {
        self.open.remove(&first_offset);
        self.ended.push_back((first_offset, marker));
        if !commit {
            let stable_offset = self.open.keys().next().copied().unwrap_or(Offset(marker.0 + 1));
            self.aborted.push_back(Aborted { producer_id, first_offset, last_offset: marker, stable_offset });
        }
    }

    /// Markers below `high_watermark` are there for good.
    pub fn settle(&mut self, high_watermark: Offset) {
        while self.ended.front().is_some_and(|(_, marker)| *marker < high_watermark) {
            self.ended.pop_front();
        }
    }

    pub fn first_unstable(&self) -> Option<Offset> {
        let open = self.open.keys().next().copied();
        let ended = self.ended.iter().map(|(first, _)| *first).min();
        open.into_iter().chain(ended).min()
    }

    /// What a reader of `from..to` has to skip: producer and first offset, by first offset.
    pub fn aborted_in(&self, from: Offset, to: Offset) -> Vec<(ProducerId, Offset)> {
        let begin = self.aborted.partition_point(|a| a.last_offset < from);
        let mut found = Vec::new();
        for aborted in self.aborted.range(begin..) {
            if aborted.first_offset < to {
                found.push((aborted.producer_id, aborted.first_offset));
            }
            if aborted.stable_offset >= to {
                break;
            }
        }
        found.sort_unstable_by_key(|(producer, first)| (*first, *producer));
        found
    }

    /// The log starts here now.
    pub fn cut(&mut self, log_start: Offset) {
        while self.aborted.front().is_some_and(|a| a.last_offset < log_start) {
            self.aborted.pop_front();
        }
    }

    /// Compaction left nothing of the transactions with these markers, which are in order.
    pub fn forget(&mut self, markers: &[Offset]) {
        if !markers.is_empty() {
            self.aborted.retain(|a| markers.binary_search(&a.last_offset).is_err());
        }
    }

    /// In the order of their markers.
    pub fn aborted(&self) -> impl ExactSizeIterator<Item = &Aborted> {
        self.aborted.iter()
    }

    /// Puts an aborted transaction back that a snapshot has.
    pub fn restore(&mut self, aborted: Aborted) {
        self.aborted.push_back(aborted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index against the plain definition, over random histories: every transaction that was aborted and overlaps
    /// the range is listed, and nothing that ended before it.
    #[test]
    fn the_index_lists_what_a_range_overlaps() {
        for seed in 0..200_u64 {
            let mut random = seed * 2 + 1;
            let mut next = move |below: u64| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) % below
            };
            let mut transactions = Transactions::default();
            let (mut open, mut all, mut offset) = (BTreeMap::new(), Vec::new(), Offset(0));
            for _ in 0..300 {
                offset.0 += 1 + next(4) as i64;
                let producer = ProducerId(next(6) as i64);
                match open.remove(&producer) {
                    None => {
                        open.insert(producer, offset);
                        transactions.begin(producer, offset);
                    }
                    Some(first) => {
                        let commit = next(3) == 0;
                        transactions.end(producer, first, offset, commit);
                        if !commit {
                            all.push((producer, first, offset));
                        }
                    }
                }
                assert!(transactions.first_unstable() <= open.values().min().copied().or(Some(offset)));
                if next(8) == 0 {
                    transactions.settle(Offset(offset.0 + 1));
                    assert_eq!(transactions.first_unstable(), open.values().min().copied());
                }
            }
            let stable = open.values().min().copied().unwrap_or(Offset(offset.0 + 1));
            for _ in 0..50 {
                let from = Offset(next(stable.0 as u64 + 1) as i64);
                let to = Offset(from.0 + next((stable.0 - from.0) as u64 + 1) as i64);
                let mut expected: Vec<_> = all
                    .iter()
                    .filter(|(_, first, last)| *first < to && *last >= from)
                    .map(|(producer, first, _)| (*producer, *first))
                    .collect();
                expected.sort_unstable_by_key(|(producer, first)| (*first, *producer));
                assert_eq!(transactions.aborted_in(from, to), expected, "seed {seed}: {from}..{to}");
            }
            let start = Offset(stable.0 / 2);
            transactions.cut(start);
            assert!(transactions.aborted().all(|a| a.last_offset >= start));
        }
    }
}
