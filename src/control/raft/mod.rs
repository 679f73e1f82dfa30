//! The quorum of several brokers: Raft, of which only this folder knows whose it is.
//!
//! ```text
//! propose ─▶ Raft ─▶ log store ─▶ disk's thread        carrier ─▶ other members ─▶ receive
//!             └─ committed ─▶ machine: image ─▶ told ─▶ next
//! ```
//! Everything runs on the control thread but what waits for a disk. Invariants: what is told to be committed is, on a majority's disks;
//! this node leads, to those above, only in an epoch in which it has applied all that was committed before, and not when a majority
//! has been silent for an election's time; a proposal that Raft put elsewhere than where it was decided has no effect.

mod disk;
mod gone;
mod leading;
mod machine;
mod members;
mod network;
mod store;
#[cfg(test)]
mod tests;
mod timers;
mod types;
mod watch;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use flume::{Receiver, Sender};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::quorum::{Event, NotLeading, Quorum};
use crate::metadata::quorum::{Commit, Decided, Member, Status, Voter};
use crate::metadata::{Image, Store};
use crate::model::BrokerId;
use gone::Gone;
use leading::Leadership;
use machine::{Machine, Told};
use network::{Heard, Incoming, Network};
use store::{LogStore, State};
use types::{Change, Core};
use watch::{is_only_voter, submit, watch};

pub use members::{ChangeError, VoterChange};
pub use network::{Carrier, CarryError};
pub use timers::Timers;

/// Events that nobody has taken.
const MOST_TOLD: usize = 256;
pub struct Raft {
    me: Voter,
    timers: Timers,
    core: Core,
    state: Rc<RefCell<State>>,
    heard: Heard,
    told: Receiver<Told>,
    /// Told and not yet given.
    events: RefCell<VecDeque<Event>>,
    leader: Cell<Leadership>,
    gone: Gone,
    /// Of the last change that was given.
    given: Cell<u64>,
    next_offset: Cell<u64>,
    /// Rises with each loss of leadership: proposals of before are dropped where they wait.
    round: Rc<Cell<u64>>,
    proposals: Sender<(u64, Change)>,
    /// The members are being changed: nothing is proposed.
    changing: Cell<bool>,
    went_on: Notify,
    incoming: RefCell<Incoming>,
    elect: Box<dyn Fn(Member) -> ElectCall>,
    tasks: Vec<JoinHandle<()>>,
}

type ElectCall = std::pin::Pin<Box<dyn Future<Output = Result<(), CarryError>>>>;

impl Raft {
    /// Takes over a store; within a `LocalSet`. A node that is the only voter leads at once.
    pub async fn start<C: Carrier>(
        store: Store,
        dir: &Path,
        timers: Timers,
        carrier: Rc<C>,
    ) -> io::Result<Self> {
        let (me, committed) = (store.me(), store.image().version);
        let state = State::new(store.into_parts(), dir.to_path_buf())?;
        let state = Rc::new(RefCell::new(state));
        let (tell, told) = flume::bounded(MOST_TOLD);
        let heard = Heard::default();
        let config = timers.config()?;
        let network = Network { carrier: carrier.clone(), heard: heard.clone(), state: state.clone() };
        let machine = Machine { state: state.clone(), tell: tell.clone() };
        let core = Core::new(me, config, network, LogStore(state.clone()), machine).await;
        let core = core.map_err(io::Error::other)?;
        if is_only_voter(&core, me) {
            core.trigger().elect().await.map_err(io::Error::other)?;
        }
        let round = Rc::new(Cell::new(0));
        let (proposals, queue) = flume::unbounded();
        let tasks = vec![
            tokio::task::spawn_local(watch(core.clone(), state.clone(), timers, me, tell)),
            tokio::task::spawn_local(submit(core.clone(), queue, round.clone())),
        ];
        let elect = move |to: Member| -> ElectCall {
            let carrier = carrier.clone();
            Box::pin(async move {
                let body = wire::begin(to.voter);
                carrier.carry(&to, wire::ELECT, body.into(), timers.election.0).await.map(drop)
            })
        };
        Ok(Self {
            me,
            timers,
            core,
            state,
            heard,
            told,
            events: RefCell::default(),
            leader: Cell::default(),
            gone: Gone::default(),
            given: Cell::new(committed),
            next_offset: Cell::new(committed + 1),
            round,
            proposals,
            changing: Cell::new(false),
            went_on: Notify::new(),
            incoming: RefCell::default(),
            elect: Box::new(elect),
            tasks,
        })
    }

    /// As of the last change that is applied here.
    pub fn image(&self) -> Arc<Image> {
        Arc::new(self.state.borrow().applied.image.clone())
    }

    /// Why this node has no part in what is decided, for now.
    pub fn waits(&self) -> Option<String> {
        self.state.borrow().disk.waits()
    }

    /// Takes a message of another member, and what it is to be answered.
    pub async fn receive(&self, from: Voter, what: u8, mut body: Bytes) -> Result<Bytes, CarryError> {
        let to = wire::take_voter(&mut body)?;
        if to != self.me {
            // A node that came back with another directory has promised nothing (Q1).
            return Err(CarryError::Refused(format!("this is {}, not {to}", self.me)));
        }
        let ended = |e: &dyn std::fmt::Display| CarryError::Refused(e.to_string());
        let mut out = Vec::new();
        match what {
            wire::APPEND => {
                let request = wire::take_append(body)?;
                check_sender(from, &request.vote)?;
                let response = self.core.append_entries(request).await.map_err(|e| ended(&e))?;
                wire::put_appended(&response, &mut out);
            }
            wire::VOTE => {
                let request = wire::take_ask(body)?;
                check_sender(from, &request.vote)?;
                self.gone.free(&self.core).await;
                let response = self.core.vote(request).await.map_err(|e| ended(&e))?;
                wire::put_answer(&response, &mut out);
            }
            wire::SNAPSHOT => {
                let chunk = wire::take_chunk(body)?;
                check_sender(from, &chunk.vote)?;
                let whole = self.incoming.borrow_mut().take(from, &chunk)?;
                let vote = match whole {
                    Some(bytes) => self.install(&chunk, bytes).await?,
                    None => self.core.metrics().borrow().vote.max_of(chunk.vote),
                };
                wire::put_vote(&vote, &mut out);
            }
            wire::ELECT => self.core.trigger().elect().await.map_err(|e| ended(&e))?,
            _ => return Err(CarryError::Malformed),
        }
        Ok(out.into())
    }

    async fn install(&self, chunk: &wire::Chunk, bytes: Vec<u8>) -> Result<types::Vote, CarryError> {
        let committed = network::decode(bytes).await?;
        if types::applied_of(&committed) != Some(chunk.of) {
            return Err(CarryError::Malformed);
        }
        let meta = types::meta_of(&committed);
        let snapshot = openraft::Snapshot { meta, snapshot: Box::new(committed) };
        let installed = self.core.install_full_snapshot(chunk.vote, snapshot).await;
        installed.map(|answer| answer.vote).map_err(|e| CarryError::Refused(e.to_string()))
    }

    /// A node's process has ended. If it led, another is to lead at once.
    pub fn leader_gone(&self, node: BrokerId) {
        self.gone.note(&self.core, self.me, node);
    }

    /// Ends Raft here, and waits until nothing of it touches the files any more.
    pub async fn stop(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Err(error) = self.core.shutdown().await {
            log::error!("the quorum did not stop as it should: {error}");
        }
        let thread = self.state.borrow_mut().disk.close();
        let joined = tokio::task::spawn_blocking(|| thread.map(std::thread::JoinHandle::join));
        if !matches!(joined.await, Ok(None | Some(Ok(())))) {
            log::error!("the thread that writes metadata panicked");
        }
    }

    fn hear(&self, told: Told) {
        match told {
            Told::Committed(commits) => self.hear_commits(commits),
            Told::Snapshot(image) => {
                self.depose(self.leader.get().epoch);
                self.given.set(image.version);
                self.events.borrow_mut().push_back(Event::Snapshot { image });
            }
            Told::Leader(leader) => self.hear_leader(leader),
            Told::Ended(why) => {
                self.depose(self.leader.get().epoch);
                self.events.borrow_mut().push_back(Event::Ended { why });
            }
        }
        self.went_on.notify_waiters();
    }

    fn hear_commits(&self, commits: Vec<Commit>) {
        for commit in &commits {
            // An entry of another leader, or one of Raft's own where a proposal was to be.
            let is_taken = commit.records.is_empty() && commit.offset < self.next_offset.get();
            if self.leader.get().mine && (commit.epoch != self.leader.get().epoch || is_taken) {
                self.depose(commit.epoch);
            }
            self.given.set(commit.offset);
            self.next_offset.set(self.next_offset.get().max(commit.offset + 1));
        }
        self.events.borrow_mut().push_back(Event::Committed(commits));
    }

    fn hear_leader(&self, leader: Leadership) {
        if !leader.mine {
            self.round.set(self.round.get() + 1);
        }
        self.next_offset.set(self.given.get() + 1);
        self.leader.set(leader);
        let Leadership { epoch, who, mine } = leader;
        self.events.borrow_mut().push_back(Event::Leader { epoch, who, mine });
    }

    /// This node does not lead, to those above: until Raft says that it does.
    fn depose(&self, epoch: i32) {
        if self.leader.get().mine {
            self.hear_leader(Leadership { epoch, who: None, mine: false });
        }
    }
}

impl Drop for Raft {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Quorum for Raft {
    async fn ready(&self) {
        while self.changing.get() {
            self.went_on.notified().await;
        }
    }

    fn propose(&self, epoch: i32, change: Decided) -> Result<u64, NotLeading> {
        if self.leads() != Some(epoch) || self.changing.get() {
            return Err(NotLeading);
        }
        let offset = self.next_offset.get();
        let change = Change { offset, epoch, records: Arc::new(change.records) };
        self.proposals.send((self.round.get(), change)).map_err(|_| NotLeading)?;
        self.next_offset.set(offset + 1);
        Ok(offset)
    }

    async fn next(&self) -> Event {
        loop {
            if let Some(event) = self.events.borrow_mut().pop_front() {
                return event;
            }
            match self.told.recv_async().await {
                Ok(told) => self.hear(told),
                Err(_) => std::future::pending().await,
            }
        }
    }

    fn leads(&self) -> Option<i32> {
        let leader = self.leader.get();
        leader.mine.then_some(leader.epoch)
    }

    fn status(&self) -> Status {
        self.describe()
    }
}

/// Whoever leads or stands for election speaks for itself only.
fn check_sender(from: Voter, vote: &types::Vote) -> Result<(), CarryError> {
    match vote.leader_id.voted_for == Some(from) {
        true => Ok(()),
        false => Err(CarryError::Refused(format!("{from} does not speak for another"))),
    }
}

trait MaxOf {
    fn max_of(self, other: Self) -> Self;
}

impl MaxOf for types::Vote {
    fn max_of(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
}
