//! The control thread's only view of consensus. Whether a change is agreed on by one broker's disk or by a majority of voters,
//! nothing above this knows.

use crate::metadata::quorum::{Membership, Voter};
use crate::metadata::records::Record;

pub trait Quorum {
    /// Proposes a change that was decided on all that was proposed before it, in this epoch: the offset that it gets if it is
    /// committed. Returns at once; [`Self::next`] says what became of it.
    fn propose(&self, epoch: i32, records: Vec<Record>) -> Result<u64, NotLeading>;

    /// What happens next. Nothing is lost if the future is dropped.
    fn next(&self) -> impl Future<Output = Event>;

    fn status(&self) -> Status;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Every change up to an offset is committed: durable, and never taken back.
    Committed { offset: u64 },
    /// Every change past the last committed one is not, and will not be if this node can help it; where the disk failed, a
    /// restart may find some of them committed. Proposals made before this was heard are among them.
    Lost { why: String },
}

/// This node does not lead in the epoch of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLeading;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub me: Voter,
    /// The leader's epoch.
    pub epoch: i32,
    pub committed: u64,
    pub membership: Membership,
}
