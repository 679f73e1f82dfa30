//! What crosses threads. Payloads are reference-counted `Bytes` or owned buffers, never borrows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::BytesMut;

use super::coordinator::Unavailable;
use super::metrics::MetricsSnapshot;
use crate::cluster::{ControlReply, ControlRequest, Image};
use crate::coordinator::group;
use crate::model::PartitionId;
use crate::partition::producer::ProducerView;
use crate::partition::{AppendError, Appended, FoundOffset, Position, ReadError, ReadOutcome};
use crate::rt::mesh;
use crate::rt::net::Socket;
use crate::security::quota::Holder;

/// A batch for one partition.
pub struct ProduceEntry {
    pub partition: PartitionId,
    pub records: BytesMut,
}

/// One partition of a Fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchEntry {
    pub partition: PartitionId,
    pub position: Position,
}

#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    #[error("no such partition here")]
    UnknownPartition,
    #[error(transparent)]
    Append(#[from] AppendError),
}

pub type ProduceResult = Result<Appended, ProduceError>;
pub type FetchResult = Result<ReadOutcome, ReadError>;

/// To a shard, unless it says otherwise.
pub enum Request {
    /// Append these; answer when durable, or at once if nobody waits.
    Produce {
        entries: Vec<ProduceEntry>,
        wait: bool,
    },
    Fetch {
        entries: Vec<FetchEntry>,
        max_bytes: usize,
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
    Produce(Vec<ProduceResult>),
    Fetch(Vec<FetchResult>),
    FindOffsets(Vec<Result<FoundOffset, ReadError>>),
    EpochEnds(Vec<Result<(i32, i64), ReadError>>),
    /// The new log start offsets.
    DeleteRecords(Vec<Result<i64, ReadError>>),
    Group(Result<Box<group::Reply>, Unavailable>),
    ListGroups(Result<Vec<group::Listed>, Unavailable>),
    Sizes(Vec<Option<u64>>),
    Producers(Vec<Result<Vec<ProducerView>, ReadError>>),
    Metrics(Box<MetricsSnapshot>),
    Control(ControlReply),
    Done,
}

pub type Port = mesh::Port<Request, Reply>;
pub type End = mesh::End<Request, Reply>;
