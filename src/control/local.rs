//! The quorum of one broker: its own disk. A thread of its own writes and syncs, so that whoever proposes never waits for a
//! disk; what is proposed while a sync is under way is committed by the next one, together.

use std::cell::{Cell, RefCell};
use std::io;
use std::thread::JoinHandle;

use flume::{Receiver, Sender};

use super::quorum::{Event, NotLeading, Quorum};
use crate::metadata::Store;
use crate::metadata::quorum::{Decided, MemberStatus, Status};

/// Changes in one write.
const MAX_GROUP: usize = 1000;

struct Proposed {
    /// Changes of an earlier round were decided on what was lost.
    round: u64,
    change: Decided,
}

pub struct Local {
    proposals: RefCell<Option<Sender<Proposed>>>,
    /// What the thread has done.
    done: Receiver<Event>,
    round: Cell<u64>,
    next_offset: Cell<u64>,
    status: RefCell<Status>,
    thread: RefCell<Option<JoinHandle<Store>>>,
}

impl Local {
    /// Takes over a store. Ends, with what was proposed committed, when it is dropped.
    pub fn start(store: Store) -> io::Result<Self> {
        let status = Status {
            me: store.me(),
            leader: Some(store.me()),
            epoch: store.epoch(),
            committed: store.image().version,
            membership: store.membership().clone(),
            members: vec![MemberStatus {
                voter: store.me(),
                votes: true,
                end: None,
                heard_ms: None,
                caught_up_ms: None,
            }],
        };
        let (proposals, queue) = flume::unbounded();
        let (tell, done) = flume::unbounded();
        let thread =
            std::thread::Builder::new().name("metadata".into()).spawn(move || run(store, &queue, &tell))?;
        Ok(Self {
            proposals: RefCell::new(Some(proposals)),
            done,
            round: Cell::new(0),
            next_offset: Cell::new(status.committed + 1),
            status: RefCell::new(status),
            thread: RefCell::new(Some(thread)),
        })
    }

    /// Whether all that was proposed is committed, or lost, and was told.
    pub fn is_settled(&self) -> bool {
        self.next_offset.get() == self.status.borrow().committed + 1
    }

    /// Takes no more proposals: the thread ends with the store once those before are committed.
    pub fn close(&self) -> Option<JoinHandle<Store>> {
        drop(self.proposals.take());
        self.thread.take()
    }

    fn hear(&self, event: &Event) {
        let mut status = self.status.borrow_mut();
        match event {
            Event::Committed(commits) => {
                status.committed = commits.last().map_or(status.committed, |commit| commit.offset);
            }
            Event::Lost { .. } => {
                self.round.set(self.round.get() + 1);
                self.next_offset.set(status.committed + 1);
            }
            Event::Leader { .. } | Event::Snapshot { .. } | Event::Ended { .. } => {}
        }
    }
}

impl Quorum for Local {
    async fn ready(&self) {}

    fn propose(&self, epoch: i32, change: Decided) -> Result<u64, NotLeading> {
        if epoch != self.status.borrow().epoch {
            return Err(NotLeading);
        }
        let proposals = self.proposals.borrow();
        let proposals = proposals.as_ref().ok_or(NotLeading)?;
        proposals.send(Proposed { round: self.round.get(), change }).map_err(|_| NotLeading)?;
        Ok(self.next_offset.replace(self.next_offset.get() + 1))
    }

    async fn next(&self) -> Event {
        match self.done.recv_async().await {
            Ok(event) => {
                self.hear(&event);
                event
            }
            // The thread ends only with this, or by a panic, after which nothing is committed any more.
            Err(_) => std::future::pending().await,
        }
    }

    fn leads(&self) -> Option<i32> {
        Some(self.status.borrow().epoch)
    }

    fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        status.members.iter_mut().for_each(|me| me.end = Some(status.committed));
        status
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if self.close().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that commits metadata panicked");
        }
    }
}

fn run(mut store: Store, queue: &Receiver<Proposed>, tell: &Sender<Event>) -> Store {
    let mut round = 0;
    while let Ok(first) = queue.recv() {
        let group = std::iter::once(first).chain(queue.try_iter().take(MAX_GROUP - 1));
        let changes: Vec<_> = group.filter(|one| one.round == round).map(|one| one.change).collect();
        if changes.is_empty() {
            continue;
        }
        let event = match store.commit_decided(changes) {
            Ok(commits) => Event::Committed(commits),
            Err(error) => {
                round += 1;
                Event::Lost { why: error.to_string() }
            }
        };
        let heard = tell.send(event);
        store.trim();
        if heard.is_err() {
            break;
        }
    }
    store
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
