//! The newest batches of one partition, in memory: `cached` (in a segment file, evictable) then `pinned` (not yet).
//!
//! ```text
//! front  [ cached … cached | pinned … pinned ]  back
//!        evicted from here   written to the segment from here
//! ```
//! Offsets rise without overlap from front to back; an append goes to the back; a write turns pinned batches into
//! cached ones. Consumers at the tail are served from here, without waiting and without a copy.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::Bytes;

use crate::log::Lsn;
use crate::log::resources::{BATCH_OVERHEAD, Evict};

/// One batch. `bytes` may be shared with its neighbours, which then lie side by side in it.
struct Entry {
    base_offset: i64,
    next_offset: i64,
    max_timestamp: i64,
    /// When it was appended, if its records have no time.
    appended_ms: Option<i64>,
    lsn: Lsn,
    position: u32,
    size: u32,
    bytes: Bytes,
}

impl Entry {
    fn slice(&self) -> Bytes {
        self.bytes.slice(self.position as usize..(self.position + self.size) as usize)
    }

    fn cost(&self) -> usize {
        self.size as usize + BATCH_OVERHEAD
    }

    fn shares_with(&self, other: &Self) -> bool {
        self.bytes.as_ptr() == other.bytes.as_ptr() && self.bytes.len() == other.bytes.len()
    }
}

/// A batch as the writer sees it.
#[derive(Clone, Copy)]
pub struct TailBatch<'a> {
    pub base_offset: i64,
    pub next_offset: i64,
    pub max_timestamp: i64,
    pub lsn: Lsn,
    pub bytes: &'a [u8],
    appended_ms: Option<i64>,
}

impl TailBatch<'_> {
    /// The time by which a segment that takes the batch now counts as created and written.
    pub fn written_ms(&self, now_ms: i64) -> i64 {
        self.appended_ms.unwrap_or(now_ms)
    }
}

#[derive(Default)]
pub struct Tail {
    batches: VecDeque<Entry>,
    pinned: usize,
    pinned_bytes: u64,
    pinned_cost: usize,
    cached_cost: usize,
}

impl Tail {
    /// Appends a batch; returns its cost, now pinned. The clock is asked only for records without a time.
    pub fn push(
        &mut self,
        base_offset: i64,
        next_offset: i64,
        max_timestamp: i64,
        lsn: Lsn,
        bytes: Bytes,
        clock: impl FnOnce() -> i64,
    ) -> usize {
        let appended_ms = (max_timestamp < 0).then(clock);
        let (size, position) = (bytes.len() as u32, 0);
        let entry =
            Entry { base_offset, next_offset, max_timestamp, appended_ms, lsn, position, size, bytes };
        let cost = entry.cost();
        self.batches.push_back(entry);
        self.pinned += 1;
        self.pinned_bytes += u64::from(size);
        self.pinned_cost += cost;
        cost
    }

    pub fn pinned_bytes(&self) -> u64 {
        self.pinned_bytes
    }

    /// What the batches cost: pinned, cached.
    pub fn costs(&self) -> (usize, usize) {
        (self.pinned_cost, self.cached_cost)
    }

    pub fn holds(&self, offset: i64) -> bool {
        let (front, back) = (self.batches.front(), self.batches.back());
        front.is_some_and(|e| e.base_offset <= offset) && back.is_some_and(|e| offset < e.next_offset)
    }

    fn first_pinned(&self) -> usize {
        self.batches.len() - self.pinned
    }

    pub fn oldest_pinned_lsn(&self) -> Option<Lsn> {
        self.batches.get(self.first_pinned()).map(|e| e.lsn)
    }

    /// The batches no segment file holds yet, oldest first.
    pub fn pinned(&self) -> impl DoubleEndedIterator<Item = TailBatch<'_>> {
        self.batches.range(self.first_pinned()..).map(|e| TailBatch {
            base_offset: e.base_offset,
            next_offset: e.next_offset,
            max_timestamp: e.max_timestamp,
            lsn: e.lsn,
            bytes: &e.bytes[e.position as usize..(e.position + e.size) as usize],
            appended_ms: e.appended_ms,
        })
    }

    /// The largest timestamp among the pinned batches.
    pub fn pinned_max_timestamp(&self) -> Option<i64> {
        self.batches.range(self.first_pinned()..).map(|e| e.max_timestamp).max()
    }

    /// The first pinned batch at or after `offset` that may hold a timestamp not below `target`.
    pub fn find_timestamp(&self, offset: i64, target: i64) -> Option<(i64, Bytes)> {
        let mut pinned = self.batches.range(self.first_pinned()..);
        let found = pinned.find(|e| e.next_offset > offset && e.max_timestamp >= target)?;
        Some((found.next_offset, found.slice()))
    }

    /// The `count` oldest pinned batches are in the segment file; returns their cost, now evictable, and the offset
    /// they end at. With `chunk`, the bytes they were written from, side by side from `start` on, they are served
    /// from there, so that small batches no longer hold the request frames they came in.
    pub fn mark_written(&mut self, count: usize, chunk: Option<(&Bytes, usize)>) -> (usize, i64) {
        let first = self.first_pinned();
        let (mut cost, mut end) = (0, 0);
        let mut position = chunk.map_or(0, |(_, start)| start);
        for entry in self.batches.range_mut(first..first + count) {
            cost += entry.cost();
            end = entry.next_offset;
            self.pinned_bytes -= u64::from(entry.size);
            if let Some((chunk, _)) = chunk {
                entry.bytes = chunk.clone();
                entry.position = position as u32;
                position += entry.size as usize;
            }
        }
        self.pinned -= count;
        self.pinned_cost -= cost;
        self.cached_cost += cost;
        (cost, end)
    }

    /// Where a log that is to end at `to` can be cut: there, or before the batch that has it within. `None` if no batch
    /// that is here reaches past it.
    pub fn boundary(&self, to: i64) -> Option<i64> {
        let at = self.batches.partition_point(|e| e.next_offset <= to);
        self.batches.get(at).map(|e| e.base_offset.min(to))
    }

    /// Forgets the batches that reach past `to`; returns the costs given back: pinned, cached.
    pub fn truncate(&mut self, to: i64) -> (usize, usize) {
        let before = self.costs();
        while let Some(entry) = self.batches.pop_back_if(|e| e.next_offset > to) {
            if self.pinned > 0 {
                self.pinned -= 1;
                self.pinned_bytes -= u64::from(entry.size);
                self.pinned_cost -= entry.cost();
            } else {
                self.cached_cost -= entry.cost();
            }
        }
        (before.0 - self.pinned_cost, before.1 - self.cached_cost)
    }

    /// Forgets everything; returns the costs given back: pinned, cached.
    pub fn clear(&mut self) -> (usize, usize) {
        let costs = self.costs();
        *self = Self::default();
        costs
    }

    /// Whole batches from the one holding `offset` on, below `limit`, up to `max_bytes`; the first one in any case
    /// with `at_least_one`. `None` if `offset` is not (or no longer) here.
    pub fn read(&self, offset: i64, limit: i64, max_bytes: usize, at_least_one: bool) -> Option<Vec<Bytes>> {
        let first = self.batches.partition_point(|e| e.next_offset <= offset);
        let entry = self.batches.get(first)?;
        if first == 0 && entry.base_offset > offset {
            return None;
        }
        let mut room = max_bytes;
        if at_least_one {
            room = room.max(entry.size as usize);
        }
        let mut out = Vec::new();
        let mut run: Option<(&Entry, u32)> = None;
        for entry in self.batches.range(first..) {
            if entry.base_offset >= limit || entry.size as usize > room {
                break;
            }
            room -= entry.size as usize;
            match &mut run {
                Some((head, end)) if head.shares_with(entry) && *end == entry.position => *end += entry.size,
                _ => {
                    out.extend(run.map(finish));
                    run = Some((entry, entry.position + entry.size));
                }
            }
        }
        out.extend(run.map(finish));
        Some(out)
    }
}

fn finish((head, end): (&Entry, u32)) -> Bytes {
    head.bytes.slice(head.position as usize..end as usize)
}

impl Evict for RefCell<Tail> {
    fn evict_below(&self, offset: i64) -> usize {
        let mut tail = self.borrow_mut();
        let mut freed = 0;
        while tail.batches.len() > tail.pinned && tail.batches.front().is_some_and(|e| e.base_offset < offset)
        {
            freed += tail.batches.pop_front().map_or(0, |e| e.cost());
        }
        tail.cached_cost -= freed;
        // A burst's queue is not kept for the quiet time after it.
        if tail.batches.capacity() > 64 && tail.batches.len() < tail.batches.capacity() / 4 {
            let keep = tail.batches.len() * 2;
            tail.batches.shrink_to(keep);
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten batches of two offsets and `10 × (i + 1)` bytes each.
    fn tail() -> Tail {
        let mut tail = Tail::default();
        for i in 0..10i64 {
            let bytes = vec![i as u8; 10 * (i as usize + 1)];
            tail.push(i * 2, i * 2 + 2, 100 + i, Lsn(i as u64), bytes.into(), || {
                unreachable!("they have times")
            });
        }
        tail
    }

    fn firsts(read: Option<Vec<Bytes>>) -> Option<Vec<u8>> {
        read.map(|batches| batches.iter().map(|b| b[0]).collect())
    }

    #[test]
    fn reads_whole_batches_from_the_one_that_holds_the_offset() {
        let tail = tail();
        let read = |offset, limit, max, one| firsts(tail.read(offset, limit, max, one));
        assert_eq!(read(0, 100, 10_000, false), Some((0..10).collect()));
        assert_eq!(read(7, 100, 10_000, false), Some((3..10).collect()));
        assert_eq!(read(6, 13, 10_000, false), Some(vec![3, 4, 5, 6]));
        assert_eq!(read(6, 12, 10_000, false), Some(vec![3, 4, 5]));
        assert_eq!(read(6, 6, 10_000, true), Some(vec![]));
        assert_eq!(read(6, 100, 40 + 50, false), Some(vec![3, 4]));
        assert_eq!(read(6, 100, 40 + 49, false), Some(vec![3]));
        assert_eq!(read(6, 100, 39, false), Some(vec![]));
        assert_eq!(read(6, 100, 39, true), Some(vec![3]));
        assert_eq!(read(6, 100, 0, true), Some(vec![3]));
        assert_eq!(read(20, 100, 10, true), None);
        assert_eq!(read(-1, 100, 10, true), None);
    }

    #[test]
    fn written_batches_are_evicted_and_pinned_ones_stay() {
        let tail = RefCell::new(tail());
        assert_eq!(tail.evict_below(100), 0);
        assert_eq!(tail.borrow_mut().mark_written(2, None), (10 + 20 + 2 * BATCH_OVERHEAD, 4));
        assert_eq!(tail.borrow().oldest_pinned_lsn(), Some(Lsn(2)));
        assert_eq!(tail.borrow().pinned_bytes(), 550 - 30);
        assert_eq!(tail.evict_below(2), 10 + BATCH_OVERHEAD);
        assert_eq!(tail.evict_below(100), 20 + BATCH_OVERHEAD);
        assert_eq!(tail.borrow().read(3, 100, 100, true), None);
        assert_eq!(firsts(tail.borrow().read(4, 100, 0, true)), Some(vec![2]));
        assert_eq!(tail.borrow().costs(), (520 + 8 * BATCH_OVERHEAD, 0));
    }

    #[test]
    fn a_truncation_takes_whole_batches_off_the_end() {
        let mut tail = tail();
        tail.mark_written(4, None);
        assert_eq!((tail.boundary(20), tail.boundary(19), tail.boundary(18)), (None, Some(18), Some(18)));
        assert_eq!(tail.truncate(20), (0, 0));
        assert_eq!(tail.truncate(14), (80 + 90 + 100 + 3 * BATCH_OVERHEAD, 0));
        assert_eq!((tail.pinned_bytes(), tail.oldest_pinned_lsn()), (50 + 60 + 70, Some(Lsn(4))));
        assert_eq!(tail.boundary(5), Some(4));
        assert_eq!(tail.truncate(4), (180 + 3 * BATCH_OVERHEAD, 30 + 40 + 2 * BATCH_OVERHEAD));
        assert_eq!((tail.pinned().count(), tail.costs()), (0, (0, 30 + 2 * BATCH_OVERHEAD)));
        assert_eq!(firsts(tail.read(0, 100, 1000, false)), Some(vec![0, 1]));
    }

    #[test]
    fn neighbours_in_one_chunk_are_served_as_one_slice() {
        let mut tail = tail();
        let chunk: Bytes = [vec![99; 5], vec![7; 10], vec![8; 20], vec![9; 30]].concat().into();
        tail.mark_written(3, Some((&chunk, 5)));
        let read = tail.read(0, 100, 10 + 20 + 30 + 40, false).unwrap();
        assert_eq!(read.iter().map(Bytes::len).collect::<Vec<_>>(), [60, 40]);
        assert_eq!(read[0], chunk.slice(5..));
        assert_eq!(tail.read(2, 100, 49, false).unwrap(), [chunk.slice(15..35)]);
    }

    #[test]
    fn timestamps_are_sought_among_what_no_segment_holds() {
        let mut tail = tail();
        tail.mark_written(2, None);
        assert_eq!(tail.pinned_max_timestamp(), Some(109));
        assert_eq!(tail.find_timestamp(0, 0).map(|(next, _)| next), Some(6));
        assert_eq!(tail.find_timestamp(9, 103).map(|(next, _)| next), Some(10));
        assert_eq!(tail.find_timestamp(0, 110), None);
    }
}
