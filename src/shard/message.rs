//! What crosses threads. Payloads are reference-counted `Bytes` or owned buffers, never borrows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::coordinator::Unavailable;
use super::metrics::MetricsSnapshot;
use super::timing::Appending;
use super::transactional::NotInTransaction;
use crate::controller::{ControlReply, ControlRequest};
use crate::coordinator::{group, txn};
use crate::metadata::Image;
use crate::model::PartitionId;
use crate::partition::producer::ProducerView;
use crate::partition::{
    AppendError, Appended, EndOfTxn, FoundOffset, Guard, Position, ReadError, ReadOutcome,
};
use crate::rt::mesh;
use crate::rt::net::Socket;
use crate::security::quota::Holder;
use crate::wire::ProducedBatch;

/// A batch for one partition.
pub struct ProduceEntry {
    pub partition: PartitionId,
    pub batch: ProducedBatch,
    /// For the first batch of a transaction, once its coordinator knows of it.
    pub guard: Option<Guard>,
}

impl ProduceEntry {
    pub fn new(partition: PartitionId, batch: ProducedBatch) -> Self {
        Self { partition, batch, guard: None }
    }
}

/// What a producer waits for, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Whether its batches have to be durable.
    pub durable: bool,
    pub longest: Duration,
}

/// The transaction that a request names.
#[derive(Clone, Debug)]
pub struct Transactional {
    pub id: txn::Name,
    /// The client relies on the broker to add partitions to the transaction (KIP-890).
    pub implicit: bool,
}

/// The end of a transaction on one partition.
#[derive(Clone, Copy, Debug)]
pub struct EndEntry {
    pub partition: PartitionId,
    pub end: EndOfTxn,
}

/// Offsets that a group's consumer commits in a transaction.
#[derive(Debug)]
pub struct CommitInTxn {
    /// Of the group's coordinator.
    pub partition: PartitionId,
    pub transaction: Transactional,
    pub producer: txn::Producer,
    pub commit: group::Commit,
}

/// One partition of a Fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchEntry {
    pub partition: PartitionId,
    pub position: Position,
}

/// Where a Fetch may read: memory for what comes from disk has to be taken before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From memory only; of the rest it is told how much the first read would bring.
    Memory,
    Disk,
}

#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    #[error("no such partition here")]
    UnknownPartition,
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    NotInTransaction(#[from] NotInTransaction),
    /// Whether it will be appended, or is and will be durable, nobody knows yet.
    #[error("not on disk within the time that the request gives; it may be later")]
    TimedOut,
}

pub type ProduceResult = Result<Appended, ProduceError>;
pub type EndResult = ProduceResult;
/// The group's answer, or why it was not asked.
pub type CommitInTxnResult = Result<Result<Box<group::Reply>, Unavailable>, ProduceError>;
pub type FetchResult = Result<ReadOutcome, ReadError>;

/// To a shard, unless it says otherwise.
pub enum Request {
    /// Append these; answer when durable, or as `wait` says.
    Produce {
        entries: Vec<ProduceEntry>,
        wait: Wait,
        transaction: Option<Transactional>,
    },
    Fetch {
        entries: Vec<FetchEntry>,
        max_bytes: usize,
        /// Where the batches may come from.
        source: Source,
    },
    /// Answer when a partition's high watermark is above the given offset, or once `over` is set.
    Watch {
        partitions: Vec<(PartitionId, i64)>,
        over: Arc<AtomicBool>,
    },
    FindOffsets(Vec<OffsetQuery>),
    EpochEnds(Vec<EpochQuery>),
    DeleteRecords(Vec<(PartitionId, i64)>),
    /// For the group coordinator of this partition.
    Group(PartitionId, Box<group::Request>),
    ListGroups(group::ListFilter),
    /// For the transaction coordinator of this partition.
    Txn(PartitionId, Box<txn::Request>),
    ListTxns(txn::ListFilter),
    /// Append these markers; answer when durable.
    EndTxns(Vec<EndEntry>),
    CommitInTxn(Box<CommitInTxn>),
    /// What partitions take on disk and in the tail.
    Sizes(Vec<PartitionId>),
    Producers(Vec<PartitionId>),
    /// What another shard's clients used of their quotas since it said so last.
    QuotaUse(Arc<[(Arc<Holder>, f64)]>),
    /// A connection that this shard is to serve.
    Connection(Socket),
    /// From the control thread: the metadata changed.
    Image(Arc<Image>),
    Metrics,
    /// Finish what is under way, checkpoint and end.
    Stop,
    /// To the control thread.
    Control(ControlRequest),
}

#[derive(Clone, Copy, Debug)]
pub struct OffsetQuery {
    pub partition: PartitionId,
    pub timestamp: i64,
    pub leader_epoch: i32,
    /// Only below the last stable offset.
    pub committed: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct EpochQuery {
    pub partition: PartitionId,
    pub epoch: i32,
    pub current_epoch: i32,
}

pub enum Reply {
    Produce(Vec<ProduceResult>, Appending),
    Fetch(Vec<FetchResult>),
    FindOffsets(Vec<Result<FoundOffset, ReadError>>),
    EpochEnds(Vec<Result<(i32, i64), ReadError>>),
    /// The new log start offsets.
    DeleteRecords(Vec<Result<i64, ReadError>>),
    Group(Result<Box<group::Reply>, Unavailable>),
    ListGroups(Result<Vec<group::Listed>, Unavailable>),
    Txn(Result<Box<txn::Reply>, Unavailable>),
    ListTxns(Result<Vec<txn::Listed>, Unavailable>),
    EndTxns(Vec<EndResult>),
    CommitInTxn(CommitInTxnResult),
    Sizes(Vec<Option<u64>>),
    Producers(Vec<Result<Vec<ProducerView>, ReadError>>),
    Metrics(Box<MetricsSnapshot>),
    Control(ControlReply),
    Done,
}

pub type Port = mesh::Port<Request, Reply>;
pub type End = mesh::End<Request, Reply>;
