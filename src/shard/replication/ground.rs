//! What replication stands on: a shard, or what stands for one in a test.

use std::pin::Pin;
use std::rc::Rc;

use kafka_wire::{FetchRequest, FetchResponse};

use super::pace::Pace;
use crate::log::ShardLog;
use crate::model::{BrokerId, MonoMs, PartitionId};
use crate::partition::leader::Proposal;
use crate::partition::peer::PeerState;
use crate::partition::{ReadError, Replica};
use crate::peer::Lane;
use crate::rt::Charge;

pub type Later<T> = Pin<Box<dyn Future<Output = T>>>;

pub trait Ground {
    /// This broker.
    fn me(&self) -> PeerState;
    fn replica(&self, id: PartitionId) -> Option<Rc<Replica>>;
    /// Why there is no replica of the partition here.
    fn absent(&self, id: PartitionId) -> ReadError;
    fn store(&self) -> Rc<ShardLog>;
    fn now(&self) -> MonoMs;
    fn is_stopping(&self) -> bool;
    /// Memory for an answer of so many bytes.
    fn answer(&self, least: usize, most: usize) -> Later<Charge>;
    /// A leader would have another ISR.
    fn propose(&self, id: PartitionId, proposal: Proposal);
    /// The replicas appended what their leader gave: they are to be told of the commit.
    fn appended(&self, replicas: &[Rc<Replica>]);
    /// How fast what is far behind is copied.
    fn paces(&self) -> &Paces;
    /// A leader's term began that had to wait for a truncation.
    fn begins(&self, id: PartitionId);
}

/// What this shard's part is of what may be copied.
#[derive(Default)]
pub struct Paces {
    /// To this shard, of what is far behind.
    pub catch_up: Pace,
    /// To this shard and from it, of what administrators have throttled (KIP-73).
    pub follower: Pace,
    pub leader: Pace,
}

/// Which of a leader's shards is fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub broker: BrokerId,
    pub shard: usize,
}

/// How other brokers' shards are reached.
pub trait Dial {
    fn dial(&self, source: Source, lane: Lane) -> Later<Result<Rc<dyn Fetches>, String>>;
}

/// A connection to one of them.
pub trait Fetches {
    /// Requests arrive in the order of the calls, and so do their answers.
    fn fetch(&self, request: FetchRequest) -> Later<Result<FetchResponse, String>>;
}
