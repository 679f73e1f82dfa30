//! What crosses threads. Payloads are reference-counted `Bytes` or owned buffers, never borrows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::context::Handoff;
use super::coordinator::Unavailable;
use super::leadership::Leadership;
use super::located::Located;
use super::metrics::MetricsSnapshot;
use super::timing::Appending;
use crate::controller::loads::PartitionLoad;
use crate::controller::{ControlError, ControlReply, ControlRequest};
use crate::coordinator::{group, txn};
use crate::metadata::quorum::{Status, VoterWish};
use crate::metadata::{Delta, Image};
use crate::model::report::{self, Changes};
use crate::model::{LeaderEpoch, Offset, PartitionId, Producer};
use crate::partition::producer::ProducerView;
use crate::partition::{
    Acks, AppendError, Appended, EndOfTxn, FoundOffset, Guard, Position, ReadError, ReadOutcome,
};
use crate::rt::mesh::{self, Call, To};
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
    pub acks: Acks,
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
    pub partition: Located,
    pub end: EndOfTxn,
}

/// Offsets that a group's consumer commits in a transaction.
#[derive(Debug)]
pub struct CommitInTxn {
    /// Of the group's coordinator.
    pub partition: Located,
    pub transaction: Transactional,
    pub producer: Producer,
    pub commit: group::Commit,
}

/// One partition of a Fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchEntry {
    pub partition: Located,
    pub position: Position,
}

/// How long to wait for how much.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    pub max_wait: Duration,
    pub min_bytes: usize,
    pub max_bytes: usize,
}

/// Where a Fetch may read: memory for what comes from disk has to be taken before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From memory only; of the rest it is told how much the first read would bring.
    Memory,
    Disk,
}

/// Why a batch is not taken for one of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotInTransaction {
    #[error("{0}")]
    Refused(#[from] txn::TxnError),
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
    #[error("one request holds batches of several transactional producers")]
    SeveralProducers,
    #[error("too many transactions begin at once")]
    TooMany,
}

#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    #[error("no such partition here")]
    UnknownPartition,
    /// Another broker leads the partition, or none does.
    #[error("this broker does not lead the partition")]
    NotLeader,
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    NotInTransaction(#[from] NotInTransaction),
    /// Whether it will be appended, or is and will be durable, nobody knows yet.
    #[error("not stored as asked for within the time that the request gives; it may be later")]
    TimedOut,
    #[error("appended, but fewer replicas are in sync by now than min.insync.replicas asks for")]
    TooFewReplicas,
}

pub type ProduceResult = Result<Appended, ProduceError>;
pub type EndResult = ProduceResult;
/// The group's answer, or why it was not asked.
pub type CommitInTxnResult = Result<Result<group::Committed, Unavailable>, ProduceError>;
pub type FetchResult = Result<ReadOutcome, ReadError>;
/// An epoch and where it ends, if the log knows any up to the one asked about.
pub type EpochEnd = Result<Option<(LeaderEpoch, Offset)>, ReadError>;

#[derive(Clone, Copy, Debug)]
pub struct OffsetQuery {
    pub partition: Located,
    /// Milliseconds, or one of [`crate::partition::read::special_timestamp`].
    pub timestamp: i64,
    /// What the client believes of the leader.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Only below the last stable offset.
    pub committed: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct EpochQuery {
    pub partition: Located,
    pub epoch: LeaderEpoch,
    /// What the client believes of the leader.
    pub current: Option<LeaderEpoch>,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $kind:ident -> $reply:ty;)*) => {
        /// What crosses a lane one way; [`Asked`] is what arrives.
        pub enum Request {$(
            $(#[$doc])*
            $kind($kind),
        )*}

        /// What crosses a lane the other way: for each request the reply to it.
        pub enum Reply {$($kind($reply),)*}

        /// A request that arrived, and where its reply, of the kind that belongs to it, goes.
        pub enum Asked {$($kind($kind, To<$kind>),)*}

        impl Asked {
            pub fn new(caller: mesh::Caller, request: Request) -> Self {
                match request {$(Request::$kind(call) => Self::$kind(call, caller.of()),)*}
            }
        }

        $(impl Call<Request, Reply> for $kind {
            type Reply = $reply;

            fn into_request(self) -> Request {
                Request::$kind(self)
            }

            fn into_reply(reply: $reply) -> Reply {
                Reply::$kind(reply)
            }

            fn from_reply(reply: Reply) -> $reply {
                match reply {
                    Reply::$kind(reply) => reply,
                    _ => unreachable!("whoever was asked could reply in this kind only"),
                }
            }
        })*
    };
}

// Every call, with its reply; to a shard, unless it says otherwise.
calls! {
    Produce -> (Vec<ProduceResult>, Appending);
    Fetch -> Vec<FetchResult>;
    Watch -> ();
    FindOffsets -> Vec<Result<Option<FoundOffset>, ReadError>>;
    EpochEnds -> Vec<EpochEnd>;
    DeleteRecords -> Vec<Result<Offset, ReadError>>;
    Sizes -> Vec<Result<u64, ReadError>>;
    Producers -> Vec<Result<Vec<ProducerView>, ReadError>>;
    AskGroup -> Result<Box<group::Reply>, Unavailable>;
    AskTxn -> Result<Box<txn::Reply>, Unavailable>;
    ListGroups -> Result<Vec<group::Listed>, Unavailable>;
    ListTxns -> Result<Vec<txn::Listed>, Unavailable>;
    EndTxns -> Vec<EndResult>;
    CommitOffsets -> CommitInTxnResult;
    QuotaUse -> ();
    Connection -> ();
    Metadata -> ();
    Removals -> ();
    Measure -> Box<MetricsSnapshot>;
    Stop -> ();
    Leads -> ();
    Heard -> ();
    Ping -> ();
    Loads -> Box<(Vec<PartitionLoad>, bool)>;
    /// To the control thread.
    Control -> ControlReply;
    /// To the control thread.
    Applied -> ();
    /// To the control thread.
    QuorumStatus -> Box<Status>;
    /// To the control thread.
    ChangeVoters -> Result<(), ControlError>;
    /// To the control thread.
    WatchCluster -> Box<Changes>;
}

/// Append these; answered when they are stored as `wait` says.
pub struct Produce {
    pub entries: Vec<ProduceEntry>,
    pub wait: Wait,
    pub transaction: Option<Transactional>,
}

pub struct Fetch {
    pub entries: Vec<FetchEntry>,
    pub max_bytes: usize,
    /// Where the batches may come from.
    pub source: Source,
}

/// Answered when a partition's high watermark is above the given offset, or once `over` is set.
pub struct Watch {
    pub partitions: Vec<(PartitionId, Offset)>,
    pub over: Arc<AtomicBool>,
}

pub struct FindOffsets(pub Vec<OffsetQuery>);

pub struct EpochEnds(pub Vec<EpochQuery>);

/// Moves log starts up to the given offsets, or else the high watermark; answered with the new log starts once durable.
pub struct DeleteRecords(pub Vec<(Located, Option<Offset>)>);

/// Bytes of partitions, on disk and in the tail.
pub struct Sizes(pub Vec<Located>);

/// The producers that partitions remember.
pub struct Producers(pub Vec<Located>);

/// For the group coordinator of this partition.
pub struct AskGroup(pub PartitionId, pub Box<group::Request>);

/// For the transaction coordinator of this partition.
pub struct AskTxn(pub PartitionId, pub Box<txn::Request>);

#[derive(Clone)]
pub struct ListGroups(pub group::ListFilter);

#[derive(Clone)]
pub struct ListTxns(pub txn::ListFilter);

/// Append these markers; answered when they are committed, and at the latest after `longest`.
pub struct EndTxns {
    pub ends: Vec<EndEntry>,
    pub longest: Option<Duration>,
}

pub struct CommitOffsets(pub Box<CommitInTxn>);

/// What another shard's clients used of their quotas since it said so last.
pub struct QuotaUse(pub Arc<[(Arc<Holder>, f64)]>);

/// A connection that this shard is to serve.
pub struct Connection(pub Handoff);

/// From the control thread: the metadata as it is now, and what changed since it was last told. Answered once it is applied.
pub struct Metadata(pub Arc<Image>, pub Arc<Delta>);

/// Answered once the files of all that metadata has removed so far are gone for good.
pub struct Removals;

/// What the shard counts and holds.
pub struct Measure;

/// Finish what is under way, checkpoint and end. Answered when it has begun.
pub struct Stop;

/// From the control thread: who the controller is.
pub struct Leads(pub Leadership);

/// From the control thread, after the controller has answered it: until when this broker may take itself for who coordinates
/// what it leads (C7).
pub struct Heard(pub Instant);

/// From the control thread, which has to know whether the shard still turns.
pub struct Ping;

/// How much the partitions are that the shard leads, where that is news, and whether there is no more of it; `again` where
/// nobody was told any of it yet.
pub struct Loads {
    pub again: bool,
}

pub struct Control(pub ControlRequest);

/// Answered once every shard has applied the metadata up to this offset.
pub struct Applied(pub u64);

/// How the quorum stands, as this broker sees it.
pub struct QuorumStatus;

/// What an operator asks of those who vote, and how long that may take.
pub struct ChangeVoters(pub VoterWish, pub Duration);

/// What changes in the cluster, answered when something does.
pub struct WatchCluster(pub report::Watch);

pub type Port = mesh::Port<Request, Reply>;
pub type End = mesh::End<Request, Reply>;
