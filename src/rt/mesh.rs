//! Messages between threads: for each directed pair of nodes one lane of requests and one of replies.
//!
//! Requests and replies never wait for each other. A lane is bounded; what finds it full waits in the sender's own
//! queue, in order, and leaves when the receiver has made room: nothing is dropped and nothing overtakes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use flume::{Receiver, Sender, TrySendError};

use super::doorbell::Doorbell;

/// Messages that a lane holds before its sender queues them itself.
const LANE: usize = 1024;

/// How a node is woken.
#[derive(Clone)]
pub enum Bell {
    /// A shard, through its ring.
    Shard(Arc<Doorbell>),
    /// The control thread: a token in a channel of one.
    Control(Sender<()>),
}

impl Bell {
    fn ring(&self) {
        match self {
            Self::Shard(doorbell) => doorbell.ring(),
            Self::Control(tokens) => drop(tokens.try_send(())),
        }
    }
}

enum Envelope<Q, R> {
    Request(u32, Q),
    Reply(u32, R),
}

struct Peer<Q, R> {
    requests: Sender<Envelope<Q, R>>,
    replies: Sender<Envelope<Q, R>>,
    inbox: [Receiver<Envelope<Q, R>>; 2],
    bell: Bell,
}

/// One node's end of the mesh, to be carried to its thread.
pub struct End<Q, R> {
    node: usize,
    peers: Vec<Option<Peer<Q, R>>>,
}

/// Builds a full mesh; the n-th end belongs to the n-th bell's thread.
pub fn build<Q, R>(bells: &[Bell]) -> Vec<End<Q, R>> {
    let n = bells.len();
    let mut ends: Vec<End<Q, R>> =
        (0..n).map(|node| End { node, peers: (0..n).map(|_| None).collect() }).collect();
    for a in 0..n {
        for b in 0..a {
            let (to_b, from_a) = (flume::bounded(LANE), flume::bounded(LANE));
            let (to_a, from_b) = (flume::bounded(LANE), flume::bounded(LANE));
            ends[a].peers[b] = Some(Peer {
                requests: to_b.0,
                replies: from_a.0,
                inbox: [to_a.1, from_b.1],
                bell: bells[b].clone(),
            });
            ends[b].peers[a] = Some(Peer {
                requests: to_a.0,
                replies: from_b.0,
                inbox: [to_b.1, from_a.1],
                bell: bells[a].clone(),
            });
        }
    }
    ends
}

enum Call<R> {
    Free,
    Waiting(Option<Waker>),
    Done(R),
    /// The caller went away; the reply is dropped when it comes.
    Abandoned,
}

struct PeerState<Q, R> {
    peer: Peer<Q, R>,
    overflow: RefCell<[VecDeque<Envelope<Q, R>>; 2]>,
}

/// A node's end in use on its thread.
pub struct Port<Q, R> {
    node: usize,
    peers: Vec<Option<PeerState<Q, R>>>,
    calls: RefCell<Vec<Call<R>>>,
    free: RefCell<Vec<u32>>,
    overflowing: Cell<usize>,
}

/// Where a request came from, and so where its reply goes.
#[derive(Clone, Copy, Debug)]
pub struct From {
    pub node: usize,
    call: u32,
}

impl<Q, R> Port<Q, R> {
    pub fn new(end: End<Q, R>) -> Rc<Self> {
        let peers =
            end.peers.into_iter().map(|p| p.map(|peer| PeerState { peer, overflow: RefCell::default() }));
        Rc::new(Self {
            node: end.node,
            peers: peers.collect(),
            calls: RefCell::default(),
            free: RefCell::default(),
            overflowing: Cell::new(0),
        })
    }

    pub fn node(&self) -> usize {
        self.node
    }

    /// Sends a request at once, so that requests arrive in the order of these calls; the future is the reply.
    pub fn call(self: &Rc<Self>, node: usize, request: Q) -> Reply<Q, R> {
        let call = self.claim();
        self.send(node, 0, Envelope::Request(call, request));
        Reply { port: self.clone(), call: Some(call) }
    }

    pub fn reply(&self, to: From, reply: R) {
        self.send(to.node, 1, Envelope::Reply(to.call, reply));
    }

    fn state(&self, node: usize) -> &PeerState<Q, R> {
        self.peers[node].as_ref().expect("a node does not write to itself")
    }

    fn claim(&self) -> u32 {
        let mut calls = self.calls.borrow_mut();
        if let Some(call) = self.free.borrow_mut().pop() {
            calls[call as usize] = Call::Waiting(None);
            return call;
        }
        calls.push(Call::Waiting(None));
        (calls.len() - 1) as u32
    }

    fn send(&self, node: usize, lane: usize, envelope: Envelope<Q, R>) {
        let state = self.state(node);
        let mut overflow = state.overflow.borrow_mut();
        if !overflow[lane].is_empty() {
            overflow[lane].push_back(envelope);
            return;
        }
        let sender = if lane == 0 { &state.peer.requests } else { &state.peer.replies };
        match sender.try_send(envelope) {
            Ok(()) => state.peer.bell.ring(),
            Err(TrySendError::Full(envelope)) => {
                overflow[lane].push_back(envelope);
                self.overflowing.set(self.overflowing.get() + 1);
            }
            // The peer's thread has ended: the broker is stopping, and its callers with it.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Takes in what arrived: replies wake their callers, requests go to `serve`. Returns the messages handled.
    pub fn drain(&self, mut serve: impl FnMut(From, Q)) -> usize {
        let mut handled = self.flush_overflow();
        for (node, state) in self.peers.iter().enumerate() {
            let Some(state) = state else { continue };
            for inbox in state.peer.inbox.iter().rev() {
                let waiting = inbox.len();
                for _ in 0..waiting {
                    match inbox.try_recv() {
                        Ok(Envelope::Request(call, request)) => serve(From { node, call }, request),
                        Ok(Envelope::Reply(call, reply)) => self.deliver(call, reply),
                        Err(_) => break,
                    }
                    handled += 1;
                }
                // It may have been full at any moment since its length was read.
                if waiting + inbox.len() >= LANE {
                    state.peer.bell.ring();
                }
            }
        }
        handled
    }

    fn flush_overflow(&self) -> usize {
        if self.overflowing.get() == 0 {
            return 0;
        }
        let mut sent = 0;
        for state in self.peers.iter().flatten() {
            for lane in 0..2 {
                let mut overflow = state.overflow.borrow_mut();
                let sender = if lane == 0 { &state.peer.requests } else { &state.peer.replies };
                let before = overflow[lane].len();
                while let Some(envelope) = overflow[lane].pop_front() {
                    match sender.try_send(envelope) {
                        Ok(()) => sent += 1,
                        Err(TrySendError::Full(envelope)) => {
                            overflow[lane].push_front(envelope);
                            break;
                        }
                        Err(TrySendError::Disconnected(_)) => {}
                    }
                }
                if overflow[lane].len() < before {
                    state.peer.bell.ring();
                    if overflow[lane].is_empty() {
                        self.overflowing.set(self.overflowing.get() - 1);
                    }
                }
            }
        }
        sent
    }

    fn deliver(&self, call: u32, reply: R) {
        let mut calls = self.calls.borrow_mut();
        let slot = &mut calls[call as usize];
        match std::mem::replace(slot, Call::Free) {
            Call::Waiting(waker) => {
                *slot = Call::Done(reply);
                drop(calls);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Call::Abandoned => self.free.borrow_mut().push(call),
            Call::Free | Call::Done(_) => unreachable!("one reply to a call"),
        }
    }
}

/// The reply to a [`Port::call`].
pub struct Reply<Q, R> {
    port: Rc<Port<Q, R>>,
    call: Option<u32>,
}

impl<Q, R> Future for Reply<Q, R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let call = self.call.expect("polled after completion");
        let port = self.port.clone();
        let mut calls = port.calls.borrow_mut();
        let slot = &mut calls[call as usize];
        if let Call::Waiting(waker) = slot {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Call::Done(reply) = std::mem::replace(slot, Call::Free) else { unreachable!("waiting or done") };
        port.free.borrow_mut().push(call);
        self.call = None;
        Poll::Ready(reply)
    }
}

impl<Q, R> Drop for Reply<Q, R> {
    fn drop(&mut self) {
        let Some(call) = self.call else { return };
        let mut calls = self.port.calls.borrow_mut();
        if let Call::Done(_) = std::mem::replace(&mut calls[call as usize], Call::Abandoned) {
            calls[call as usize] = Call::Free;
            self.port.free.borrow_mut().push(call);
        }
    }
}

impl<Q, R> Unpin for Reply<Q, R> {}
