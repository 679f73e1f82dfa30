//! Raft's words for ours. An entry's offset is its index in Raft plus one, so that offset 0 is before any entry; an epoch is a term.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::{CommittedLeaderId, EntryPayload, RaftTypeConfig, TokioRuntime};

use crate::metadata::Committed;
use crate::metadata::log::{Entry, What};
use crate::metadata::quorum::{Member, Membership, Voter};
use crate::metadata::records::{Endpoint, Record};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl RaftTypeConfig for Types {
    type D = Change;
    type R = ();
    type NodeId = Voter;
    type Node = Vec<Endpoint>;
    type Entry = RaftEntry;
    type SnapshotData = Committed;
    type AsyncRuntime = TokioRuntime;
    type Responder = openraft::impls::OneshotResponder<Self>;
}

pub type Core = openraft::Raft<Types>;
pub type LogId = openraft::LogId<Voter>;
pub type Vote = openraft::Vote<Voter>;
pub type RaftEntry = openraft::Entry<Types>;
pub type RaftMembership = openraft::Membership<Voter, Vec<Endpoint>>;
pub type StoredMembership = openraft::StoredMembership<Voter, Vec<Endpoint>>;
pub type SnapshotMeta = openraft::SnapshotMeta<Voter, Vec<Endpoint>>;
pub type StorageError = openraft::StorageError<Voter>;

/// A change as it is proposed: it was decided on all that is before this offset, in this epoch, and means nothing elsewhere.
#[derive(Clone, Debug)]
pub struct Change {
    pub offset: u64,
    pub epoch: i32,
    pub records: Arc<Vec<Record>>,
}

/// `None` before any entry.
pub fn log_id(offset: u64, epoch: i32) -> Option<LogId> {
    let term = u64::try_from(epoch).unwrap_or(0);
    Some(LogId::new(CommittedLeaderId::new(term, Voter::default()), offset.checked_sub(1)?))
}

/// Offset and epoch.
pub fn place(id: Option<LogId>) -> (u64, i32) {
    id.map_or((0, 0), |id| (id.index + 1, epoch(id.leader_id.term)))
}

/// Terms rise by one from what fits.
pub fn epoch(term: u64) -> i32 {
    i32::try_from(term).unwrap_or(i32::MAX)
}

pub fn to_entry(entry: &RaftEntry) -> Entry {
    let (offset, epoch) = place(Some(entry.log_id));
    let what = match &entry.payload {
        EntryPayload::Blank => What::Blank,
        EntryPayload::Normal(change) => What::Records(change.records.to_vec()),
        EntryPayload::Membership(membership) => What::Membership(to_membership(membership)),
    };
    Entry { offset, epoch, what }
}

/// `None` for the offset that no entry has.
pub fn of_entry(Entry { offset, epoch, what }: Entry) -> Option<RaftEntry> {
    let payload = match what {
        What::Blank => EntryPayload::Blank,
        What::Records(records) => EntryPayload::Normal(Change { offset, epoch, records: Arc::new(records) }),
        What::Membership(membership) => EntryPayload::Membership(of_membership(&membership)),
    };
    Some(RaftEntry { log_id: log_id(offset, epoch)?, payload })
}

pub fn to_membership(membership: &RaftMembership) -> Membership {
    let sets = membership.get_joint_config().iter();
    Membership {
        voters: sets.map(|set| set.iter().copied().collect()).collect(),
        members: membership
            .nodes()
            .map(|(voter, endpoints)| Member { voter: *voter, endpoints: endpoints.clone() })
            .collect(),
    }
}

pub fn of_membership(membership: &Membership) -> RaftMembership {
    let sets: Vec<BTreeSet<Voter>> =
        membership.voters.iter().map(|set| set.iter().copied().collect()).collect();
    let nodes: BTreeMap<Voter, Vec<Endpoint>> =
        membership.members.iter().map(|member| (member.voter, member.endpoints.clone())).collect();
    RaftMembership::new(sets, nodes)
}

pub fn applied_of(committed: &Committed) -> Option<LogId> {
    log_id(committed.image.version, committed.epoch)
}

pub fn membership_of(committed: &Committed) -> StoredMembership {
    let at = log_id(committed.membership_at, committed.membership_epoch);
    StoredMembership::new(at, of_membership(&committed.membership))
}

pub fn meta_of(committed: &Committed) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: applied_of(committed),
        last_membership: membership_of(committed),
        snapshot_id: format!("{}-{}", committed.image.version, committed.epoch),
    }
}
