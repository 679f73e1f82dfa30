//! The kinds of coordinators: what a shard has to know of each.

use std::rc::Rc;

use super::driver::{Driver, Unavailable};
use crate::coordinator::Machine;
use crate::coordinator::group::Groups;
use crate::coordinator::txn::{self, Transactions};
use crate::model::{LeaderEpoch, PartitionId};
use crate::rt::mesh::Call;
use crate::shard::message::{AskGroup, AskTxn, Reply, Request};
use crate::shard::{Shard, marking};

/// A kind of machine that shards drive.
pub(in crate::shard) trait Kind: Machine {
    /// A shard's machines of this kind.
    fn driver(shard: &Shard) -> &Driver<Self>;

    /// The call to the shard that has the machine of a partition.
    fn call(
        partition: PartitionId,
        request: Box<Self::Request>,
    ) -> impl Call<Request, Reply, Reply = Result<Box<Self::Reply>, Unavailable>>;

    /// A machine that knows nothing yet.
    fn make(shard: &Shard) -> Self;

    /// Carries out what a machine wants done outside of its partition, for the leader epoch that it is of.
    fn perform(shard: &Rc<Shard>, of: (PartitionId, LeaderEpoch), command: Self::Command);

    /// A machine has gone: what it wanted is not its any more.
    fn left(shard: &Shard, partition: PartitionId);
}

impl Kind for Groups {
    fn driver(shard: &Shard) -> &Driver<Self> {
        shard.coordinators.groups()
    }

    fn call(
        partition: PartitionId,
        request: Box<Self::Request>,
    ) -> impl Call<Request, Reply, Reply = Result<Box<Self::Reply>, Unavailable>> {
        AskGroup(partition, request)
    }

    fn make(shard: &Shard) -> Self {
        Self::new(shard.settings.groups.clone())
    }

    fn perform(_: &Rc<Shard>, _: (PartitionId, LeaderEpoch), none: Self::Command) {
        match none {}
    }

    fn left(_: &Shard, _: PartitionId) {}
}

impl Kind for Transactions {
    fn driver(shard: &Shard) -> &Driver<Self> {
        shard.coordinators.transactions()
    }

    fn call(
        partition: PartitionId,
        request: Box<Self::Request>,
    ) -> impl Call<Request, Reply, Reply = Result<Box<Self::Reply>, Unavailable>> {
        AskTxn(partition, request)
    }

    fn make(shard: &Shard) -> Self {
        Self::new(shard.settings.transactions.clone())
    }

    fn perform(shard: &Rc<Shard>, of: (PartitionId, LeaderEpoch), command: txn::Command) {
        marking::perform(shard, of, command);
    }

    fn left(shard: &Shard, partition: PartitionId) {
        shard.ends.forget(partition);
    }
}
