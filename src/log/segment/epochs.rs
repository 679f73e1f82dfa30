//! Which leader epoch wrote which offsets: the list behind OffsetForLeaderEpoch.

use serde::{Deserialize, Serialize};

use crate::model::{LeaderEpoch, Offset};

/// `(epoch, first offset written in it)`, both strictly increasing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochList(Vec<(i32, i64)>);

impl EpochList {
    /// Notes that `epoch` starts at `offset`, with a batch or without. An epoch that is not above the latest says nothing
    /// new; one that nothing was written in gives its place to the one that starts where it did.
    pub fn note(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if self.latest().is_none_or(|latest| epoch > latest) {
            self.cut_back(offset);
            self.0.push((epoch.0, offset.0));
        }
    }

    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.0.last().map(|(epoch, _)| LeaderEpoch(*epoch))
    }

    pub fn entries(&self) -> impl DoubleEndedIterator<Item = (LeaderEpoch, Offset)> {
        self.0.iter().map(|(epoch, start)| (LeaderEpoch(*epoch), Offset(*start)))
    }

    /// At most so many of those above `epoch`, or of all, the first ones.
    pub fn after(&self, epoch: Option<LeaderEpoch>, most: usize) -> Vec<(LeaderEpoch, Offset)> {
        let after = self.0.partition_point(|(known, _)| epoch.is_some_and(|epoch| *known <= epoch.0));
        self.entries().skip(after).take(most).collect()
    }

    /// The largest epoch not above the one asked for, and the offset at which it ended; `None` when `epoch` is above the
    /// latest. An epoch from before the list's start ends where the list starts.
    pub fn end_offset(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        match self.latest() {
            Some(latest) if latest == epoch => return Some((epoch, log_end)),
            Some(latest) if epoch < latest => {}
            _ => return None,
        }
        let after = self.0.partition_point(|(e, _)| *e <= epoch.0);
        let end = Offset(self.0[after].1);
        match after.checked_sub(1) {
            Some(floor) => Some((LeaderEpoch(self.0[floor].0), end)),
            None => Some((epoch, end)),
        }
    }

    /// The log now starts at `offset`: forgets the epochs that ended before it.
    pub fn cut_front(&mut self, offset: Offset) {
        let gone = self.0.partition_point(|(_, start)| *start <= offset.0);
        if gone > 0 {
            self.0.drain(..gone - 1);
            self.0[0].1 = offset.0;
        }
    }

    /// The epoch that wrote what is at `offset`, as far as the list goes back.
    pub fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.0.partition_point(|(_, start)| *start <= offset.0);
        after.checked_sub(1).map(|at| LeaderEpoch(self.0[at].0))
    }

    /// Whether an epoch starts at `offset` or later.
    pub fn starts_past(&self, offset: Offset) -> bool {
        self.0.last().is_some_and(|(_, start)| *start >= offset.0)
    }

    /// The log now ends at `offset`: forgets the epochs that start there or later.
    pub fn cut_back(&mut self, offset: Offset) {
        self.0.truncate(self.0.partition_point(|(_, start)| *start < offset.0));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(i32, i64)]) -> EpochList {
        let mut list = EpochList::default();
        entries.iter().for_each(|(epoch, offset)| list.note(LeaderEpoch(*epoch), Offset(*offset)));
        list
    }

    #[test]
    fn answers_as_kafka_does() {
        assert_eq!(EpochList::default().end_offset(LeaderEpoch(0), Offset(10)), None);
        let mut epochs = list(&[(2, 5), (2, 7), (4, 20), (3, 25), (7, 30)]);
        assert_eq!(epochs.0, [(2, 5), (4, 20), (7, 30)]);
        let cases = [
            (0, Some((0, 5))),
            (2, Some((2, 20))),
            (3, Some((2, 20))),
            (4, Some((4, 30))),
            (5, Some((4, 30))),
            (7, Some((7, 44))),
            (8, None),
        ];
        for (asked, expected) in cases {
            let expected = expected.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end)));
            assert_eq!(epochs.end_offset(LeaderEpoch(asked), Offset(44)), expected, "epoch {asked}");
        }
        assert_eq!(
            [4, 5, 19, 20, 99].map(|offset| epochs.at(Offset(offset)).map(|epoch| epoch.0)),
            [None, Some(2), Some(2), Some(4), Some(7)]
        );
        assert_eq!(epochs.after(None, 2), epochs.entries().take(2).collect::<Vec<_>>());
        assert_eq!(epochs.after(Some(LeaderEpoch(3)), 9), epochs.entries().skip(1).collect::<Vec<_>>());
        let mut cut = epochs.clone();
        cut.cut_back(Offset(30));
        assert_eq!(cut.0, [(2, 5), (4, 20)]);
        cut.note(LeaderEpoch(9), Offset(20));
        assert_eq!(cut.0, [(2, 5), (9, 20)], "nothing was written in epoch 4");
        epochs.cut_front(Offset(22));
        assert_eq!(epochs.0, [(4, 22), (7, 30)]);
        epochs.cut_front(Offset(3));
        assert_eq!(epochs.0, [(4, 22), (7, 30)]);
    }
}
