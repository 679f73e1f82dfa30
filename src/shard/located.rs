//! Where a partition is served: decided in one place, from the metadata, once for each thing that is asked.
//!
//! ```text
//!               ┌─ Here ─────── this shard
//!  query ─ Where ┼─ Shard(n) ─── a message to another shard of this broker
//!               ├─ Broker(id) ─ that broker leads: a client is told so, and asks there
//!               └─ Nobody ───── no broker leads
//! ```
//! The shard that is asked looks again: its replica knows best whether it leads.

use crate::model::{BrokerId, PartitionId, shard_of};

/// Who serves a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// The shard that decided.
    Here,
    Shard(usize),
    Broker(BrokerId),
    Nobody,
}

/// A partition, and who serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    pub id: PartitionId,
    pub at: Where,
}

/// One shard of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Me {
    pub broker: BrokerId,
    pub shard: usize,
    /// Shards of this broker.
    pub count: usize,
}

impl Me {
    /// The shard of this broker that would hold the partition.
    pub(super) fn shard(self, id: PartitionId) -> Where {
        match shard_of(id, self.count) {
            shard if shard == self.shard => Where::Here,
            shard => Where::Shard(shard),
        }
    }

    pub(super) fn owns(self, id: PartitionId) -> bool {
        self.shard(id) == Where::Here
    }

    /// Who answers clients: the leader.
    pub(super) fn leader(self, id: PartitionId, leader: Option<BrokerId>) -> Where {
        match leader {
            Some(leader) if leader == self.broker => self.shard(id),
            Some(leader) => Where::Broker(leader),
            None => Where::Nobody,
        }
    }

    /// The number of a shard of this broker.
    pub(super) fn number(self, at: Where) -> Option<usize> {
        match at {
            Where::Here => Some(self.shard),
            Where::Shard(shard) => Some(shard),
            Where::Broker(_) | Where::Nobody => None,
        }
    }
}
