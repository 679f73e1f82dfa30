//! A log's leader epochs.

use crate::model::{LeaderEpoch, Offset};

use super::PartitionLog;

impl PartitionLog {
    /// The largest leader epoch not above `epoch`, and the offset at which it ended, if the log knows of any as new.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.borrow().end_offset(epoch, self.end_offset())
    }

    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.borrow().latest()
    }

    /// The first leader epochs above `epoch`, and where they begin: at most so many.
    pub fn epochs_after(&self, epoch: Option<LeaderEpoch>, most: usize) -> Vec<(LeaderEpoch, Offset)> {
        self.epochs.borrow().after(epoch, most)
    }

    /// The leader epoch that wrote what is at `offset`, as far as that is known.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.borrow().at(offset)
    }

    /// Leader epoch `epoch` begins at `offset`, whether a batch follows or not; the journal says so.
    pub(in crate::log) fn note_epoch_at(&self, epoch: LeaderEpoch, offset: Offset) {
        self.touch();
        self.note_disorder();
        self.epochs.borrow_mut().note(epoch, offset);
    }

    /// Forgets the epochs that are not between the log's start and its end.
    pub(in crate::log) fn bound_epochs(&self) {
        let mut epochs = self.epochs.borrow_mut();
        epochs.cut_back(Offset(self.end_offset().0 + 1));
        epochs.cut_front(self.start_offset());
    }
}
