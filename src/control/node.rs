//! This node's part in the quorum: of one broker its own disk, of several Raft. The first member that joins turns the one into the
//! other, on the same files, while the broker runs.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::local::Local;
use super::quorum::{Event, NotLeading, Quorum};
use super::raft::{Carrier, CarryError, ChangeError, Raft, Timers, VoterChange};
use crate::metadata::Store;
use crate::metadata::quorum::{Decided, Status, Voter};
use crate::model::BrokerId;

/// How often it is looked whether what was proposed is committed, before the quorum grows.
const LOOK: Duration = Duration::from_millis(1);

pub(crate) struct Node<C> {
    part: RefCell<Part>,
    /// It is being turned: nothing is proposed.
    turning: Cell<bool>,
    turned: Notify,
    dir: PathBuf,
    carrier: Rc<C>,
}

#[derive(Clone)]
enum Part {
    Local(Rc<Local>),
    Raft(Rc<Raft>),
}

impl<C: Carrier> Node<C> {
    /// Takes over the store of a metadata directory. Within a `LocalSet`.
    pub async fn start(store: Store, dir: PathBuf, carrier: Rc<C>) -> std::io::Result<Self> {
        let part = match store.is_alone() {
            true => Part::Local(Rc::new(Local::start(store)?)),
            false => Part::Raft(Rc::new(Raft::start(store, &dir, Timers::default(), carrier.clone()).await?)),
        };
        let (turning, turned) = (Cell::new(false), Notify::new());
        Ok(Self { part: RefCell::new(part), turning, turned, dir, carrier })
    }

    fn part(&self) -> Part {
        self.part.borrow().clone()
    }

    /// Takes a message of another member, and what it is to be answered.
    pub async fn receive(&self, from: Voter, what: u8, body: Bytes) -> Result<Bytes, CarryError> {
        match self.part() {
            Part::Raft(raft) => raft.receive(from, what, body).await,
            Part::Local(_) => Err(CarryError::Refused("this node is alone".into())),
        }
    }

    /// Why this node has no part in what is decided, for now.
    pub fn waits(&self) -> Option<String> {
        match self.part() {
            Part::Raft(raft) => raft.waits(),
            Part::Local(_) => None,
        }
    }

    /// Changes the members, one change at a time; an error says why it is not done.
    pub async fn change(&self, change: VoterChange) -> Result<(), ChangeError> {
        match self.part() {
            Part::Raft(raft) => raft.change_voters(change).await,
            Part::Local(local) => self.turn(&local).await.map_err(ChangeError::Failed),
        }
    }

    /// From now on by Raft. It leads again in a moment, in an epoch of its own.
    async fn turn(&self, local: &Rc<Local>) -> Result<(), String> {
        if self.turning.replace(true) {
            return Err("the quorum is being turned into one of several".into());
        }
        while !local.is_settled() {
            tokio::time::sleep(LOOK).await;
        }
        let thread = local.close();
        let joined = tokio::task::spawn_blocking(|| thread.and_then(|thread| thread.join().ok())).await;
        let store = joined.ok().flatten().ok_or("the thread that commits metadata has ended")?;
        let raft = Raft::start(store, &self.dir, Timers::default(), self.carrier.clone()).await;
        let raft = raft.map_err(|e| format!("Raft does not start on this node's files: {e}"))?;
        self.part.replace(Part::Raft(Rc::new(raft)));
        self.turning.set(false);
        self.turned.notify_waiters();
        log::info!("the metadata is agreed on by a quorum from now on");
        Ok(())
    }

    /// Has another voter lead, if this one does; an error says why it does not come to that.
    pub async fn hand_over(&self, to: Voter) -> Result<(), String> {
        match self.part() {
            Part::Raft(raft) => raft.hand_over(to).await.map_err(|e| e.to_string()),
            Part::Local(_) => Err("this node is alone".into()),
        }
    }

    /// The process of a node has ended. If that led, another is to lead at once.
    pub fn leader_gone(&self, node: BrokerId) {
        if let Part::Raft(raft) = self.part() {
            raft.leader_gone(node);
        }
    }

    /// Ends it, with what was proposed written, before the directory is another process's.
    pub async fn stop(&self) {
        match self.part() {
            Part::Raft(raft) => raft.stop().await,
            Part::Local(local) => {
                let thread = local.close();
                drop(tokio::task::spawn_blocking(|| thread.map(std::thread::JoinHandle::join)).await);
            }
        }
    }
}

impl<C: Carrier> Quorum for Node<C> {
    async fn ready(&self) {
        while self.turning.get() {
            let mut turned = std::pin::pin!(self.turned.notified());
            turned.as_mut().enable();
            if self.turning.get() {
                turned.await;
            }
        }
        if let Part::Raft(raft) = self.part() {
            raft.ready().await;
        }
    }

    fn propose(&self, epoch: i32, change: Decided) -> Result<u64, NotLeading> {
        match &*self.part.borrow() {
            Part::Local(_) if self.turning.get() => Err(NotLeading),
            Part::Local(local) => local.propose(epoch, change),
            Part::Raft(raft) => raft.propose(epoch, change),
        }
    }

    async fn next(&self) -> Event {
        loop {
            let mut turned = std::pin::pin!(self.turned.notified());
            turned.as_mut().enable();
            match self.part() {
                Part::Local(local) => tokio::select! {
                    event = local.next() => return event,
                    () = turned => {}
                },
                Part::Raft(raft) => return raft.next().await,
            }
        }
    }

    fn leads(&self) -> Option<i32> {
        match &*self.part.borrow() {
            Part::Local(local) => local.leads(),
            Part::Raft(raft) => raft.leads(),
        }
    }

    fn status(&self) -> Status {
        match &*self.part.borrow() {
            Part::Local(local) => local.status(),
            Part::Raft(raft) => raft.status(),
        }
    }
}
