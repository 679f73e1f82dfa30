//! What the cluster's metadata says of one partition, and what that makes of this broker's replica.

use crate::model::{BrokerId, LeaderEpoch, PartitionEpoch};

/// A partition's state in the metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// `None` while nobody may lead.
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    /// In order of preference.
    pub replicas: Vec<BrokerId>,
    /// The replicas that have everything that is committed.
    pub isr: Vec<BrokerId>,
}

/// What a replica does for its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Orders what is appended, and answers clients.
    Leader,
    /// Copies the leader's log, if there is a leader.
    Follower,
    /// Is not assigned: neither reads nor writes are served.
    Offline,
}

impl Assignment {
    /// Of a partition with one replica, which leads.
    pub fn alone(broker: BrokerId, leader_epoch: LeaderEpoch) -> Self {
        let (replicas, isr) = (vec![broker], vec![broker]);
        Self { leader: Some(broker), leader_epoch, partition_epoch: PartitionEpoch::ZERO, replicas, isr }
    }

    pub fn role_of(&self, broker: BrokerId) -> Role {
        match self.leader {
            Some(leader) if leader == broker => Role::Leader,
            _ if self.replicas.contains(&broker) => Role::Follower,
            _ => Role::Offline,
        }
    }

    /// Whether `other` came later; metadata may be handed out more than once.
    pub fn is_before(&self, other: &Self) -> bool {
        (self.leader_epoch, self.partition_epoch) < (other.leader_epoch, other.partition_epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_follows_from_the_assignment() {
        let of = |leader, replicas: &[BrokerId]| {
            Assignment { leader, replicas: replicas.into(), ..Assignment::default() }.role_of(1)
        };
        assert_eq!(of(Some(1), &[1, 2]), Role::Leader);
        assert_eq!(of(Some(2), &[1, 2]), Role::Follower);
        assert_eq!(of(None, &[1, 2]), Role::Follower, "who has nobody to follow waits for one");
        assert_eq!([of(Some(2), &[2, 3]), of(None, &[])], [Role::Offline; 2]);
    }

    #[test]
    fn epochs_tell_what_is_later() {
        let at = |leader, partition| Assignment {
            leader_epoch: LeaderEpoch(leader),
            partition_epoch: PartitionEpoch(partition),
            ..Assignment::default()
        };
        assert!(at(1, 5).is_before(&at(2, 5)) && at(1, 5).is_before(&at(1, 6)));
        assert!(!at(1, 5).is_before(&at(1, 5)) && !at(2, 5).is_before(&at(1, 6)));
    }
}
