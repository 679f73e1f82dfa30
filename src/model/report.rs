//! What brokers tell `weir cluster` beside what Kafka's messages have a place for: as JSON in tagged fields of our own, asked
//! for by a field of the same tag.

use serde::{Deserialize, Serialize};

use super::BrokerId;

/// In DescribeCluster: changes of the cluster after a number, as they happen. Asked with [`Watch`], answered with [`Changes`].
pub const WATCH: u32 = 10_001;
/// In DescribeCluster: more about each broker. Asked with nothing, answered with [`BrokerDetails`] in each broker.
pub const DETAILS: u32 = 10_002;

/// In AlterPartitionReassignments: takes what a broker holds elsewhere. Asked with [`Drain`], answered with [`Drained`].
pub const DRAIN: u32 = 10_003;

/// In AddRaftVoter: the controller is to choose who votes again; nobody is added. In DescribeQuorum: answered with
/// [`VoterChoice`].
pub const VOTERS: u32 = 10_004;

/// The longest that a broker waits for a change.
pub const LONGEST_WAIT_MS: u32 = 2_000;

/// Who chooses those that vote on the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterChoice {
    /// An operator does.
    pub by_hand: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The number of the last change that is known; `None` for what happens from now on.
    pub after: Option<u64>,
    pub wait_ms: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Of the broker's process that numbers them: another one numbers anew.
    pub source: String,
    /// The number of the last change.
    pub last: u64,
    /// Some were too long ago to be told.
    pub missed: bool,
    pub changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub number: u64,
    /// When this broker heard of it, by the wall clock.
    pub at_ms: i64,
    /// The offset of the metadata that has it.
    pub offset: u64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum What {
    /// Who leads the metadata's quorum from now on, as far as this broker knows.
    Controller {
        broker: Option<BrokerId>,
        epoch: i32,
    },
    Quorum {
        voters: Vec<BrokerId>,
        observers: Vec<BrokerId>,
    },
    Registered {
        broker: BrokerId,
        epoch: i64,
        address: String,
    },
    Unregistered {
        broker: BrokerId,
    },
    Fenced {
        broker: BrokerId,
    },
    Unfenced {
        broker: BrokerId,
    },
    Stopping {
        broker: BrokerId,
    },
    Draining {
        broker: BrokerId,
        is: bool,
    },
    TopicCreated {
        topic: String,
        partitions: usize,
    },
    TopicDeleted {
        topic: String,
    },
    Leader {
        topic: String,
        partition: i32,
        was: Option<BrokerId>,
        leader: Option<BrokerId>,
        epoch: i32,
    },
    InSync {
        topic: String,
        partition: i32,
        was: Vec<BrokerId>,
        isr: Vec<BrokerId>,
    },
    Replicas {
        topic: String,
        partition: i32,
        replicas: Vec<BrokerId>,
        adding: Vec<BrokerId>,
        removing: Vec<BrokerId>,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerDetails {
    pub epoch: i64,
    pub shards: u32,
    pub build: String,
    pub draining: bool,
    pub stopping: bool,
    /// Where other brokers reach it.
    pub cluster: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub broker: BrokerId,
    /// It is to be given replicas again.
    pub end: bool,
    /// Partitions for which there is no other broker are to have fewer replicas.
    pub fewer: bool,
    /// Nothing is done.
    pub dry_run: bool,
}

/// What a drain comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Partitions that go to another broker.
    pub moved: Vec<Place>,
    /// Partitions that have fewer replicas after it.
    pub fewer: Vec<Place>,
    /// Partitions that stay where they are: nobody else can hold them.
    pub kept: Vec<Place>,
    /// It was done, or is under way.
    pub done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
    /// Who holds it after.
    pub replicas: Vec<BrokerId>,
}
