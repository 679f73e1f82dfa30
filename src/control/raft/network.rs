//! Raft's messages on their way: out through whatever carries them, and what arrives in.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;

use super::store::State;
use super::types::{LogId, SnapshotMeta, Types, Vote, place};
use super::wire::{self, CHUNK, Chunk, Malformed};
use crate::metadata::Committed;
use crate::metadata::quorum::{Member, Voter};
use crate::metadata::records::Endpoint;

/// How long a piece of a snapshot may take.
const CHUNK_LIMIT: Duration = Duration::from_secs(10);
/// Between tries to reach a member that cannot be reached.
const PAUSE: Duration = Duration::from_millis(200);

/// Carries messages to other members. What it is told in `what` goes to [`super::Raft::receive`] there, and the answer comes back.
pub trait Carrier: 'static {
    /// A body of up to some MiB. Ends within the limit.
    fn carry(
        &self,
        to: &Member,
        what: u8,
        body: Bytes,
        limit: Duration,
    ) -> impl Future<Output = Result<Bytes, CarryError>>;
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarryError {
    /// It is not known whether the message arrived.
    #[error("broker {0} cannot be reached")]
    Unreachable(i32),
    /// The other end does not take it.
    #[error("refused: {0}")]
    Refused(String),
    #[error("a malformed message")]
    Malformed,
}

impl From<Malformed> for CarryError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

type RpcError = RPCError<Voter, Vec<Endpoint>, RaftError<Voter>>;

fn rpc(error: &CarryError) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}

fn streaming(error: &CarryError) -> StreamingError<Types, Fatal<Voter>> {
    StreamingError::Unreachable(Unreachable::new(error))
}

/// When a member was last heard of, by the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub heard_ms: i64,
    /// When it had all that there was.
    pub caught_up_ms: Option<i64>,
}

pub type Heard = Rc<RefCell<BTreeMap<Voter, Times>>>;

pub struct Network<C> {
    pub carrier: Rc<C>,
    pub heard: Heard,
    pub state: Rc<RefCell<State>>,
}

impl<C: Carrier> RaftNetworkFactory<Types> for Network<C> {
    type Network = Peer<C>;

    async fn new_client(&mut self, target: Voter, node: &Vec<Endpoint>) -> Peer<C> {
        let to = Member { voter: target, endpoints: node.clone() };
        let (carrier, heard, state) = (self.carrier.clone(), self.heard.clone(), self.state.clone());
        Peer { carrier, heard, state, to }
    }
}

/// One other member.
pub struct Peer<C> {
    carrier: Rc<C>,
    heard: Heard,
    state: Rc<RefCell<State>>,
    to: Member,
}

impl<C: Carrier> Peer<C> {
    async fn carry(&self, what: u8, body: Vec<u8>, limit: Duration) -> Result<Bytes, CarryError> {
        let carried = self.carrier.carry(&self.to, what, body.into(), limit);
        match tokio::time::timeout(limit, carried).await {
            Ok(answer) => answer,
            Err(_) => Err(CarryError::Unreachable(self.to.voter.node)),
        }
    }

    fn note(&self, has: Option<LogId>) {
        let now = crate::rt::unix_ms();
        let is_current = place(has).0 >= self.state.borrow().end().0;
        let mut heard = self.heard.borrow_mut();
        let times = heard.entry(self.to.voter).or_insert(Times { heard_ms: now, caught_up_ms: None });
        times.heard_ms = now;
        if is_current {
            times.caught_up_ms = Some(now);
        }
    }

    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot<Types>) -> Result<Vote, CarryError> {
        let Snapshot { meta: SnapshotMeta { last_log_id, .. }, snapshot } = snapshot;
        let of = last_log_id.ok_or(CarryError::Malformed)?;
        let encode = move || snapshot.snapshot().encode();
        let bytes = tokio::task::spawn_blocking(encode).await.map_err(|_| CarryError::Malformed)?;
        let bytes = Bytes::from(bytes.map_err(|_| CarryError::Malformed)?);
        let mut theirs = vote;
        for at in (0..bytes.len()).step_by(CHUNK) {
            let piece = bytes.slice(at..(at + CHUNK).min(bytes.len()));
            let chunk = Chunk { vote, of, total: bytes.len() as u64, at: at as u64, bytes: piece };
            let mut body = wire::begin(self.to.voter);
            wire::put_chunk(&chunk, &mut body);
            let mut answer = self.carry(wire::SNAPSHOT, body, CHUNK_LIMIT).await?;
            theirs = wire::take_vote(&mut answer)?;
            if theirs > vote {
                break;
            }
        }
        Ok(theirs)
    }
}

impl<C: Carrier> RaftNetwork<Types> for Peer<C> {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Voter>, RpcError> {
        let mut body = wire::begin(self.to.voter);
        wire::put_append(&request, &mut body).map_err(|e| rpc(&e.into()))?;
        let answer = self.carry(wire::APPEND, body, option.hard_ttl()).await.map_err(|e| rpc(&e))?;
        let answer = wire::take_appended(answer).map_err(|e| rpc(&e.into()))?;
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        self.note(last.filter(|_| answer.is_success()));
        Ok(answer)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Voter>,
        option: RPCOption,
    ) -> Result<VoteResponse<Voter>, RpcError> {
        let mut body = wire::begin(self.to.voter);
        wire::put_ask(&request, &mut body);
        let answer = self.carry(wire::VOTE, body, option.hard_ttl()).await.map_err(|e| rpc(&e))?;
        wire::take_answer(answer).map_err(|e| rpc(&e.into()))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Voter>, StreamingError<Types, Fatal<Voter>>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(streaming(&error)),
            },
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(PAUSE))
    }
}

/// A snapshot that is arriving; of one leader at a time.
#[derive(Default)]
pub struct Incoming {
    of: Option<(Voter, LogId, u64)>,
    bytes: Vec<u8>,
}

impl Incoming {
    /// Takes a piece in; all of the snapshot once it is whole.
    pub fn take(&mut self, from: Voter, chunk: &Chunk) -> Result<Option<Vec<u8>>, CarryError> {
        let of = Some((from, chunk.of, chunk.total));
        if chunk.at == 0 {
            *self = Self { of, bytes: Vec::new() };
        }
        if self.of != of || self.bytes.len() as u64 != chunk.at {
            return Err(CarryError::Refused("a piece of a snapshot without those before it".into()));
        }
        self.bytes.extend_from_slice(&chunk.bytes);
        let whole = self.bytes.len() as u64 == chunk.total;
        Ok(whole.then(|| std::mem::take(self).bytes))
    }
}

/// Reads a snapshot on a thread that may take its time.
pub async fn decode(bytes: Vec<u8>) -> Result<Committed, CarryError> {
    let read = move || {
        let snapshot = crate::metadata::log::Snapshot::decode(&bytes).map_err(|_| CarryError::Malformed)?;
        Committed::of(snapshot).map_err(|e| CarryError::Refused(e.to_string()))
    };
    tokio::task::spawn_blocking(read).await.map_err(|_| CarryError::Malformed)?
}
