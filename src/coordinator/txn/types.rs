//! What is asked of a transaction's coordinator, and what it answers. Plain data that can cross threads.

use std::sync::Arc;

use crate::model::pattern::Pattern;
use crate::model::{Producer, ProducerId};

/// A transactional id, or a topic's name.
pub type Name = Arc<str>;

/// Kafka's refusals, without their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    #[error("the producer id is not the transactional id's")]
    WrongProducer,
    #[error("a newer producer has taken the transactional id over")]
    Fenced,
    #[error("an earlier transaction is still being ended")]
    Concurrent,
    #[error("the transaction is in no state for that")]
    InvalidState,
    #[error("the transaction timeout is out of bounds")]
    InvalidTimeout,
    #[error("the partition is not of the transaction")]
    NotOfTransaction,
    #[error("there is no such transactional id")]
    NotFound,
    /// The state, or the number of transactional ids, is over its bound.
    #[error("the transaction's state is too large to be kept")]
    TooLarge,
}

/// The protocol that the client speaks: from version 2 on, every transaction has an epoch of its own (KIP-890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V0,
    V2,
}

impl Version {
    pub fn level(self) -> i8 {
        match self {
            Self::V0 => 0,
            Self::V2 => 2,
        }
    }
}

pub type Partition = (Name, i32);

#[derive(Clone, Debug)]
pub enum Request {
    Init {
        id: Name,
        timeout_ms: i32,
        /// What the client was, if it only wants a new epoch.
        expected: Option<Producer>,
        /// A producer id that nobody has, where the machine said that it needs one.
        fresh: Option<ProducerId>,
    },
    /// Takes partitions into the transaction; `verify` only asks whether they are in it.
    Add {
        id: Name,
        producer: Producer,
        partitions: Vec<Partition>,
        version: Version,
        verify: bool,
    },
    End {
        id: Name,
        producer: Producer,
        commit: bool,
        version: Version,
        fresh: Option<ProducerId>,
    },
    /// Every partition has the marker that a [`Command`] asked for.
    Marked {
        id: Name,
        producer: Producer,
    },
    Describe(Name),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Of Init and End: what the client is from now on.
    Producer(Result<Producer, TxnError>),
    /// Of Add: one result for all, or one for each partition.
    Added(Result<Vec<Result<(), TxnError>>, TxnError>),
    Described(Box<Result<Description, TxnError>>),
    Done,
    /// Ask again, with a fresh producer id.
    NeedsProducerId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub state: &'static str,
    pub producer: Producer,
    pub timeout_ms: i32,
    /// -1 before the first transaction.
    pub started_ms: i64,
    pub partitions: Vec<Partition>,
}

/// Ends a transaction on its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub id: Name,
    pub producer: Producer,
    pub commit: bool,
    pub version: Version,
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Empty for all.
    pub producer_ids: Vec<ProducerId>,
    /// State names; empty for all.
    pub states: Vec<String>,
    /// Only transactions that run for longer; negative for all.
    pub longer_than_ms: i64,
    /// Only ids that match.
    pub pattern: Option<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: Name,
    pub producer_id: ProducerId,
    pub state: &'static str,
}
