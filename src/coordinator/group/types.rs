//! What is asked of a group's coordinator, and what it answers. Plain data that can cross threads.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Producer, TopicId};

/// A name that is stored: of a group, a member, a protocol, a topic.
pub type Name = Arc<str>;

/// Kafka's refusals, without their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("the group has no such member")]
    UnknownMember,
    #[error("another member took the instance id")]
    FencedInstance,
    #[error("the generation is not the group's")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the member's protocols do not go with the group's")]
    InconsistentProtocol,
    #[error("the member has to join again with the id it was given")]
    MemberIdRequired,
    #[error("the group is full")]
    MaxSizeReached,
    #[error("the session timeout is out of bounds")]
    InvalidSessionTimeout,
    #[error("the group id is not valid")]
    InvalidGroupId,
    #[error("the group does not exist")]
    NotFound,
    #[error("the group is not empty")]
    NonEmpty,
    #[error("the group is subscribed to the topic")]
    SubscribedToTopic,
    #[error("the offset's metadata is too long")]
    MetadataTooLarge,
    #[error("a transaction that commits this offset is open")]
    UnstableOffset,
    /// The group's state does not fit into one batch.
    #[error("the group's state is too large to be stored")]
    TooLarge,
}

#[derive(Clone, Debug)]
pub enum Request {
    Join(Join),
    Sync(Sync),
    Heartbeat(Member),
    Leave {
        group: Name,
        members: Vec<Leaving>,
    },
    Commit(Commit),
    /// Offsets that count once the producer's transaction commits.
    CommitInTxn(Commit, Producer),
    Fetch(Fetch),
    DeleteOffsets {
        group: Name,
        topics: Vec<(Name, Vec<i32>)>,
    },
    Describe(Name),
    Delete(Name),
}

/// One result for each partition of each topic.
pub type Committed = Result<Vec<Vec<Result<(), GroupError>>>, GroupError>;

/// The answer to the request of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Join(Joined),
    Sync(Result<Synced, GroupError>),
    Heartbeat(Result<(), GroupError>),
    /// One result for each member.
    Leave(Vec<Result<(), GroupError>>),
    Commit(Committed),
    Fetch(Vec<FetchedTopic>),
    DeleteOffsets(Committed),
    Describe(Option<Description>),
    Delete(Result<(), GroupError>),
}

#[derive(Clone, Debug)]
pub struct Join {
    pub group: Name,
    /// Empty before the coordinator gave one.
    pub member: Name,
    pub instance: Option<Name>,
    pub client_id: Name,
    pub client_host: Name,
    pub session_timeout: i32,
    pub rebalance_timeout: i32,
    pub protocol_type: Name,
    /// By preference.
    pub protocols: Vec<(Name, Bytes)>,
    /// Makes a new member's id.
    pub random: u128,
    /// The client knows to join again with the id it is given.
    pub requires_known_id: bool,
    /// The client knows of a leader that need not assign.
    pub can_skip_assignment: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    pub error: Option<GroupError>,
    pub member: Name,
    /// -1 with most errors.
    pub generation: i32,
    pub protocol_type: Option<Name>,
    pub protocol: Option<Name>,
    pub leader: Option<Name>,
    pub skip_assignment: bool,
    /// For the leader: everybody, with their metadata for the chosen protocol.
    pub members: Vec<(Name, Option<Name>, Bytes)>,
}

#[derive(Clone, Debug)]
pub struct Sync {
    pub member: Member,
    pub protocol_type: Option<Name>,
    pub protocol: Option<Name>,
    pub assignments: Vec<(Name, Bytes)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Synced {
    pub protocol_type: Option<Name>,
    pub protocol: Option<Name>,
    pub assignment: Bytes,
}

/// Who a request says it comes from.
#[derive(Clone, Debug)]
pub struct Member {
    pub group: Name,
    pub member: Name,
    pub instance: Option<Name>,
    pub generation: i32,
}

#[derive(Clone, Debug)]
pub struct Leaving {
    pub member: Name,
    pub instance: Option<Name>,
}

#[derive(Clone, Debug)]
pub struct Commit {
    pub from: Member,
    /// -1 for the broker's retention.
    pub retention_ms: i64,
    /// An old client is told of a missing group in words that it knows.
    pub says_not_found: bool,
    pub topics: Vec<CommitTopic>,
}

#[derive(Clone, Debug)]
pub struct CommitTopic {
    pub name: Name,
    pub id: TopicId,
    pub partitions: Vec<CommitPartition>,
}

#[derive(Clone, Debug)]
pub struct CommitPartition {
    pub index: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Box<str>,
}

#[derive(Clone, Debug)]
pub struct Fetch {
    pub group: Name,
    /// `None` for all that the group has.
    pub topics: Option<Vec<(Name, TopicId, Vec<i32>)>>,
    /// Refuse an offset that an open transaction may change.
    pub require_stable: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FetchedTopic {
    pub name: Name,
    /// Zero where it is not known.
    pub id: TopicId,
    pub partitions: Vec<(i32, Result<Option<FetchedOffset>, GroupError>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FetchedOffset {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Box<str>,
}

#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// In lower case; empty for all.
    pub states: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub group: Name,
    pub protocol_type: Option<Name>,
    pub state: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub state: &'static str,
    pub protocol_type: Option<Name>,
    /// While the group is stable.
    pub protocol: Option<Name>,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DescribedMember {
    pub id: Name,
    pub instance: Option<Name>,
    pub client_id: Name,
    pub client_host: Name,
    pub metadata: Bytes,
    pub assignment: Bytes,
}
