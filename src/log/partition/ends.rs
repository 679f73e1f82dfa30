//! Where a log begins and ends.

use std::cell::Cell;

/// `start ≤ end` and `durable ≤ end`: below `start` nothing is read, below `durable` everything is in segments and synced,
/// at `end` comes the next record. Only [`cut`](Self::cut) and [`reset`](Self::reset) take `durable` and `end` back.
pub struct Ends {
    start: Cell<i64>,
    durable: Cell<i64>,
    end: Cell<i64>,
}

impl Ends {
    /// Of a log all of which is in segments.
    pub fn new(start: i64, end: i64) -> Self {
        Self { start: Cell::new(start), durable: Cell::new(end), end: Cell::new(end) }
    }

    pub fn start(&self) -> i64 {
        self.start.get()
    }

    pub fn durable(&self) -> i64 {
        self.durable.get()
    }

    pub fn end(&self) -> i64 {
        self.end.get()
    }

    /// A batch that ends at `next` was appended.
    pub fn append(&self, next: i64) {
        debug_assert!(next >= self.end(), "an append never takes the end back");
        self.end.set(next);
    }

    /// Moves the start up to `offset`, at most to the end; whether it has moved.
    pub fn raise_start(&self, offset: i64) -> bool {
        let offset = offset.min(self.end());
        let moves = offset > self.start();
        if moves {
            self.start.set(offset);
        }
        moves
    }

    /// Segments were synced up to `next`.
    pub fn sync(&self, next: i64) {
        debug_assert!(next <= self.end(), "what is synced was appended");
        self.durable.set(next);
    }

    /// The log ends at `to` now.
    pub fn cut(&self, to: i64) {
        self.durable.set(self.durable().min(to));
        self.end.set(to);
    }

    /// The log is empty and begins at `to`.
    pub fn reset(&self, to: i64) {
        self.start.set(to);
        self.durable.set(to);
        self.end.set(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ends: &Ends) -> (i64, i64, i64) {
        (ends.start(), ends.durable(), ends.end())
    }

    #[test]
    fn the_order_of_offsets_holds_whatever_happens() {
        let ends = Ends::new(3, 10);
        ends.append(20);
        assert_eq!(all(&ends), (3, 10, 20));
        assert!(ends.raise_start(5) && !ends.raise_start(5) && !ends.raise_start(4));
        ends.sync(15);
        ends.cut(17);
        assert_eq!(all(&ends), (5, 15, 17));
        ends.cut(12);
        assert_eq!(all(&ends), (5, 12, 12));
        assert!(ends.raise_start(99), "no further than the end");
        assert_eq!(all(&ends), (12, 12, 12));
        ends.reset(7);
        assert_eq!(all(&ends), (7, 7, 7));
    }
}
