//! Telling readers that go on where they ended from others: the former are read ahead for.

use std::cell::{Cell, OnceCell};

/// So many ends of reads are remembered.
const REMEMBERED: usize = 8;

/// Where the last reads from disk ended, the newest first; nothing of a log that is not read from there.
#[derive(Default)]
pub struct Sequential(OnceCell<Box<Cell<[i64; REMEMBERED]>>>);

impl Sequential {
    /// A read went from `began` to `ended`: whether it went on where an earlier one ended.
    pub fn goes_on(&self, began: i64, ended: i64) -> bool {
        let kept = self.0.get_or_init(|| Box::new(Cell::new([-1; REMEMBERED])));
        let mut ends = kept.get();
        let known = ends.iter().position(|end| *end == began);
        let slot = known.unwrap_or(REMEMBERED - 1);
        ends[..=slot].rotate_right(1);
        ends[0] = ended;
        kept.set(ends);
        known.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_goes_on_is_told_from_those_that_jump() {
        let reads = Sequential::default();
        assert!(!reads.goes_on(0, 10) && reads.goes_on(10, 20) && reads.goes_on(20, 30));
        assert!(!reads.goes_on(10, 15), "where it was before is no end");
        for reader in 0..REMEMBERED as i64 {
            assert!(!reads.goes_on(1000 * reader + 100, 1000 * reader + 200));
        }
        assert!(!reads.goes_on(30, 40), "forgotten for newer ones");
        assert!(reads.goes_on(1200, 1300));
    }
}
