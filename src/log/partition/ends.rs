//! Where a log begins and ends.

use std::cell::Cell;

use crate::model::Offset;

/// `start ≤ end` and `durable ≤ end`: below `start` nothing is read, below `durable` everything is in segments and synced,
/// at `end` comes the next record. Only [`cut`](Self::cut) and [`reset`](Self::reset) take `durable` and `end` back.
pub struct Ends {
    start: Cell<Offset>,
    durable: Cell<Offset>,
    end: Cell<Offset>,
}

impl Ends {
    /// Of a log all of which is in segments.
    pub fn new(start: Offset, end: Offset) -> Self {
        Self { start: Cell::new(start), durable: Cell::new(end), end: Cell::new(end) }
    }

    pub fn start(&self) -> Offset {
        self.start.get()
    }

    pub fn durable(&self) -> Offset {
        self.durable.get()
    }

    pub fn end(&self) -> Offset {
        self.end.get()
    }

    /// A batch that ends at `next` was appended.
    pub fn append(&self, next: Offset) {
        debug_assert!(next >= self.end(), "an append never takes the end back");
        self.end.set(next);
    }

    /// Moves the start up to `offset`, at most to the end; whether it has moved.
    pub fn raise_start(&self, offset: Offset) -> bool {
        let offset = offset.min(self.end());
        let moves = offset > self.start();
        if moves {
            self.start.set(offset);
        }
        moves
    }

    /// Segments were synced up to `next`.
    pub fn sync(&self, next: Offset) {
        debug_assert!(next <= self.end(), "what is synced was appended");
        self.durable.set(next);
    }

    /// The log ends at `to` now.
    pub fn cut(&self, to: Offset) {
        self.durable.set(self.durable().min(to));
        self.end.set(to);
    }

    /// The log is empty and begins at `to`.
    pub fn reset(&self, to: Offset) {
        self.start.set(to);
        self.durable.set(to);
        self.end.set(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ends: &Ends) -> (i64, i64, i64) {
        (ends.start().0, ends.durable().0, ends.end().0)
    }

    #[test]
    fn the_order_of_offsets_holds_whatever_happens() {
        let ends = Ends::new(Offset(3), Offset(10));
        ends.append(Offset(20));
        assert_eq!(all(&ends), (3, 10, 20));
        assert!(ends.raise_start(Offset(5)) && !ends.raise_start(Offset(5)) && !ends.raise_start(Offset(4)));
        ends.sync(Offset(15));
        ends.cut(Offset(17));
        assert_eq!(all(&ends), (5, 15, 17));
        ends.cut(Offset(12));
        assert_eq!(all(&ends), (5, 12, 12));
        assert!(ends.raise_start(Offset(99)), "no further than the end");
        assert_eq!(all(&ends), (12, 12, 12));
        ends.reset(Offset(7));
        assert_eq!(all(&ends), (7, 7, 7));
    }
}
