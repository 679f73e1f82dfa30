//! The control thread's only view of consensus. Whether a change is agreed on by one broker's disk or by a majority of voters,
//! nothing above this knows.

use std::sync::Arc;

use crate::metadata::Image;
use crate::metadata::quorum::{Commit, Decided, Status, Voter};

pub trait Quorum {
    /// Returns once a change may be decided on, and proposed before anything else is awaited: not while the voters are being
    /// changed.
    fn ready(&self) -> impl Future<Output = ()>;

    /// Proposes a change that was decided on all that was proposed before it, in this epoch: the offset that it gets if it is
    /// committed. It has no effect at another offset or in another epoch. Returns at once; [`Self::next`] says what became of it.
    fn propose(&self, epoch: i32, change: Decided) -> Result<u64, NotLeading>;

    /// What happens next. Nothing is lost if the future is dropped.
    fn next(&self) -> impl Future<Output = Event>;

    /// The epoch in which this node leads, and has applied all that was committed before.
    fn leads(&self) -> Option<i32>;

    fn status(&self) -> Status;
}

#[derive(Clone, Debug)]
pub enum Event {
    /// Changes that are committed, whoever proposed them: durable, never taken back, the same everywhere. In order, none left
    /// out.
    Committed(Vec<Commit>),
    /// This node was so far behind that it was given all of the metadata, as of the image's version.
    Snapshot { image: Arc<Image> },
    /// Who leads from now on, as far as this node knows. What it proposed before and did not hear of may be committed or not.
    Leader { epoch: i32, who: Option<Voter>, mine: bool },
    /// Every change past the last committed one is not, and will not be if this node can help it; where the disk failed, a
    /// restart may find some of them committed. Proposals made before this was heard are among them.
    Lost { why: String },
    /// This node can be no member any more, because its disk failed or has what cannot be: only another start may put that right.
    Ended { why: String },
}

/// This node does not lead in the epoch of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLeading;
