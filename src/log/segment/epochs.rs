//! Which leader epoch wrote which offsets: the list behind OffsetForLeaderEpoch.

use serde::{Deserialize, Serialize};

/// "No such epoch" and "no such offset" on the wire.
pub const UNDEFINED: i32 = -1;

/// `(epoch, first offset written in it)`, both strictly increasing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochList(Vec<(i32, i64)>);

impl EpochList {
    /// Notes that `epoch` starts at `offset`, with a batch or without. An epoch that is not above the latest says nothing
    /// new; one that nothing was written in gives its place to the one that starts where it did.
    pub fn note(&mut self, epoch: i32, offset: i64) {
        if epoch >= 0 && self.latest().is_none_or(|latest| epoch > latest) {
            self.cut_back(offset);
            self.0.push((epoch, offset));
        }
    }

    pub fn latest(&self) -> Option<i32> {
        self.0.last().map(|(epoch, _)| *epoch)
    }

    pub fn entries(&self) -> &[(i32, i64)] {
        &self.0
    }

    /// The largest epoch not above the one asked for, and the offset at which it ended; (−1, −1) when `epoch` is
    /// above the latest. An epoch from before the list's start ends where the list starts.
    pub fn end_offset(&self, epoch: i32, log_end: i64) -> (i32, i64) {
        match self.latest() {
            Some(latest) if latest == epoch => return (epoch, log_end),
            Some(latest) if epoch >= 0 && epoch < latest => {}
            _ => return (UNDEFINED, i64::from(UNDEFINED)),
        }
        let after = self.0.partition_point(|(e, _)| *e <= epoch);
        let end = self.0[after].1;
        match after.checked_sub(1) {
            Some(floor) => (self.0[floor].0, end),
            None => (epoch, end),
        }
    }

    /// The log now starts at `offset`: forgets the epochs that ended before it.
    pub fn cut_front(&mut self, offset: i64) {
        let gone = self.0.partition_point(|(_, start)| *start <= offset);
        if gone > 0 {
            self.0.drain(..gone - 1);
            self.0[0].1 = offset;
        }
    }

    /// The epoch that wrote what is at `offset`, as far as the list goes back.
    pub fn at(&self, offset: i64) -> Option<i32> {
        let after = self.0.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map(|at| self.0[at].0)
    }

    /// Whether an epoch starts at `offset` or later.
    pub fn starts_past(&self, offset: i64) -> bool {
        self.0.last().is_some_and(|(_, start)| *start >= offset)
    }

    /// The log now ends at `offset`: forgets the epochs that start there or later.
    pub fn cut_back(&mut self, offset: i64) {
        self.0.truncate(self.0.partition_point(|(_, start)| *start < offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_kafka_does() {
        let mut list = EpochList::default();
        assert_eq!(list.end_offset(0, 10), (-1, -1));
        for (epoch, offset) in [(2, 5), (2, 7), (4, 20), (3, 25), (7, 30)] {
            list.note(epoch, offset);
        }
        assert_eq!(list.entries(), [(2, 5), (4, 20), (7, 30)]);
        let cases = [
            (-1, (-1, -1)),
            (0, (0, 5)),
            (2, (2, 20)),
            (3, (2, 20)),
            (4, (4, 30)),
            (5, (4, 30)),
            (7, (7, 44)),
            (8, (-1, -1)),
        ];
        for (asked, expected) in cases {
            assert_eq!(list.end_offset(asked, 44), expected, "epoch {asked}");
        }
        assert_eq!(
            [4, 5, 19, 20, 99].map(|offset| list.at(offset)),
            [None, Some(2), Some(2), Some(4), Some(7)]
        );
        let mut cut = list.clone();
        cut.cut_back(30);
        assert_eq!(cut.entries(), [(2, 5), (4, 20)]);
        cut.note(9, 20);
        assert_eq!(cut.entries(), [(2, 5), (9, 20)], "nothing was written in epoch 4");
        list.cut_front(22);
        assert_eq!(list.entries(), [(4, 22), (7, 30)]);
        list.cut_front(3);
        assert_eq!(list.entries(), [(4, 22), (7, 30)]);
    }
}
