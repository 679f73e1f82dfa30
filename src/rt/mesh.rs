//! Messages between threads: for each directed pair of nodes one lane of requests and one of replies.
//!
//! A call is answered by a reply of its own kind ([`Call`]): who answers holds a [`To`] of that kind, and can send no other.
//!
//! A lane is a ring with one producer and one consumer, without a lock (`rtrb`): 64 bytes in and out take 12–26 ns, and a look at
//! an empty one, which every turn of the event loop makes, 1 ns; in a channel of `flume`, whose state is behind a lock, 74–111 and
//! 30 ns (bench `lane`). Threads that are no shards keep channels. Requests and replies never wait for each other.
//! A lane is bounded; a message that finds it full waits in the sender's own queue, in order, and leaves when the
//! receiver has made room: nothing is dropped and nothing overtakes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use super::doorbell::Doorbell;

/// Messages that a lane holds before its sender queues them itself. A ring is allocated whole, four for each pair of
/// nodes: what a deeper one would save in wake-ups, many shards would pay in memory.
const LANE: usize = 128;
/// The lanes between two nodes, one way.
const REQUESTS: usize = 0;
const REPLIES: usize = 1;

/// How a node is woken.
#[derive(Clone)]
pub enum Bell {
    /// A shard, through its ring.
    Shard(Arc<Doorbell>),
    /// The control thread: a token in a channel of one.
    Control(flume::Sender<()>),
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

/// The sending ends of the two lanes one way, by [`REQUESTS`] and [`REPLIES`].
type Outbox<Q, R> = [Producer<Envelope<Q, R>>; 2];
type Inbox<Q, R> = [Consumer<Envelope<Q, R>>; 2];

struct Peer<Q, R> {
    outbox: Outbox<Q, R>,
    inbox: Inbox<Q, R>,
    bell: Bell,
}

/// The lanes from one node to another.
fn lanes<Q, R>() -> (Outbox<Q, R>, Inbox<Q, R>) {
    let [(requests, asked), (replies, answered)] = [RingBuffer::new(LANE), RingBuffer::new(LANE)];
    ([requests, replies], [asked, answered])
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
            let (to_b, at_b) = lanes();
            let (to_a, at_a) = lanes();
            ends[a].peers[b] = Some(Peer { outbox: to_b, inbox: at_a, bell: bells[b].clone() });
            ends[b].peers[a] = Some(Peer { outbox: to_a, inbox: at_b, bell: bells[a].clone() });
        }
    }
    ends
}

/// One call of this node.
enum Slot<R> {
    Free,
    Waiting(Option<Waker>),
    Done(R),
    /// The caller went away; the reply is dropped when it comes.
    Abandoned,
}

/// One way out to a peer: its lane, and the messages that found the lane full.
struct Way<Q, R> {
    lane: Producer<Envelope<Q, R>>,
    overflow: VecDeque<Envelope<Q, R>>,
}

/// What became of messages given to a [`Way`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    InLane,
    Overflowed,
    /// The peer's thread has ended: the broker is stopping, and its callers with it.
    Gone,
}

impl<Q, R> Way<Q, R> {
    fn push(&mut self, envelope: Envelope<Q, R>) -> Sent {
        if !self.overflow.is_empty() {
            self.overflow.push_back(envelope);
            return Sent::Overflowed;
        }
        match self.lane.push(envelope) {
            Ok(()) => Sent::InLane,
            Err(PushError::Full(_)) if self.lane.is_abandoned() => Sent::Gone,
            Err(PushError::Full(envelope)) => {
                self.overflow.push_back(envelope);
                Sent::Overflowed
            }
        }
    }

    /// Moves waiting messages into the lane while it has room; returns how many.
    fn flush(&mut self) -> usize {
        let mut sent = 0;
        while !self.overflow.is_empty() && !self.lane.is_full() {
            sent +=
                self.overflow.pop_front().map_or(0, |envelope| usize::from(self.lane.push(envelope).is_ok()));
        }
        if self.lane.is_abandoned() {
            self.overflow.clear();
        }
        sent
    }
}

struct PeerState<Q, R> {
    out: RefCell<[Way<Q, R>; 2]>,
    inbox: RefCell<Inbox<Q, R>>,
    bell: Bell,
}

impl<Q, R> PeerState<Q, R> {
    fn new(peer: Peer<Q, R>) -> Self {
        let out = peer.outbox.map(|lane| Way { lane, overflow: VecDeque::new() });
        Self { out: RefCell::new(out), inbox: RefCell::new(peer.inbox), bell: peer.bell }
    }
}

/// A node's end in use on its thread.
pub struct Port<Q, R> {
    node: usize,
    peers: Vec<Option<PeerState<Q, R>>>,
    calls: RefCell<Vec<Slot<R>>>,
    free: RefCell<Vec<u32>>,
    /// Messages wait in a sender's own queue.
    overflowing: Cell<bool>,
}

/// One kind of request among `Q`, the requests of a mesh, and what answers it among `R`, the replies.
pub trait Call<Q, R> {
    type Reply;

    fn into_request(self) -> Q;
    fn into_reply(reply: Self::Reply) -> R;
    /// What came back to a call of this kind.
    fn from_reply(reply: R) -> Self::Reply;
}

/// In a mesh of one kind of message every message answers every other.
impl<T> Call<T, T> for T {
    type Reply = T;

    fn into_request(self) -> T {
        self
    }

    fn into_reply(reply: T) -> T {
        reply
    }

    fn from_reply(reply: T) -> T {
        reply
    }
}

/// Where a request came from.
#[derive(Debug)]
pub struct Caller {
    node: usize,
    call: u32,
}

impl Caller {
    /// The request was a `C`.
    pub fn of<C>(self) -> To<C> {
        To { caller: self, kind: PhantomData }
    }
}

/// Where the reply to a call of one kind goes. A caller waits until it is used.
#[derive(Debug)]
pub struct To<C> {
    caller: Caller,
    kind: PhantomData<fn(C)>,
}

impl<Q, R> Port<Q, R> {
    pub fn new(end: End<Q, R>) -> Rc<Self> {
        Rc::new(Self {
            node: end.node,
            peers: end.peers.into_iter().map(|peer| peer.map(PeerState::new)).collect(),
            calls: RefCell::default(),
            free: RefCell::default(),
            overflowing: Cell::new(false),
        })
    }

    pub fn node(&self) -> usize {
        self.node
    }

    /// Sends a request at once, so that requests arrive in the order of these calls; the future is the reply.
    pub fn call<C: Call<Q, R>>(self: &Rc<Self>, node: usize, request: C) -> Reply<Q, R, C> {
        let call = self.claim();
        self.send(node, REQUESTS, Envelope::Request(call, request.into_request()));
        Reply { port: self.clone(), call: Some(call), kind: PhantomData }
    }

    pub fn reply<C: Call<Q, R>>(&self, to: To<C>, reply: C::Reply) {
        let Caller { node, call } = to.caller;
        self.send(node, REPLIES, Envelope::Reply(call, C::into_reply(reply)));
    }

    fn state(&self, node: usize) -> &PeerState<Q, R> {
        self.peers[node].as_ref().expect("a node does not write to itself")
    }

    fn claim(&self) -> u32 {
        let mut calls = self.calls.borrow_mut();
        if let Some(call) = self.free.borrow_mut().pop() {
            calls[call as usize] = Slot::Waiting(None);
            return call;
        }
        calls.push(Slot::Waiting(None));
        (calls.len() - 1) as u32
    }

    fn send(&self, node: usize, lane: usize, envelope: Envelope<Q, R>) {
        let state = self.state(node);
        match state.out.borrow_mut()[lane].push(envelope) {
            Sent::InLane => state.bell.ring(),
            Sent::Overflowed => self.overflowing.set(true),
            Sent::Gone => {}
        }
    }

    /// Takes in what arrived: replies wake their callers, requests go to `serve`. Returns the messages handled.
    pub fn drain(&self, mut serve: impl FnMut(Caller, Q)) -> usize {
        let mut handled = self.flush_overflow();
        for (node, state) in self.peers.iter().enumerate() {
            let Some(state) = state else { continue };
            for lane in [REPLIES, REQUESTS] {
                let waiting = state.inbox.borrow()[lane].slots();
                for _ in 0..waiting {
                    // Taken before it is served: serving may send.
                    let envelope = state.inbox.borrow_mut()[lane].pop();
                    match envelope {
                        Ok(Envelope::Request(call, request)) => serve(Caller { node, call }, request),
                        Ok(Envelope::Reply(call, reply)) => self.deliver(call, reply),
                        Err(_) => break,
                    }
                    handled += 1;
                }
                // It may have been full at any moment since its length was read.
                if waiting > 0 && waiting + state.inbox.borrow()[lane].slots() >= LANE {
                    state.bell.ring();
                }
            }
        }
        handled
    }

    fn flush_overflow(&self) -> usize {
        if !self.overflowing.get() {
            return 0;
        }
        let (mut sent, mut left) = (0, false);
        for state in self.peers.iter().flatten() {
            for way in state.out.borrow_mut().iter_mut() {
                let moved = way.flush();
                if moved > 0 {
                    state.bell.ring();
                }
                sent += moved;
                left |= !way.overflow.is_empty();
            }
        }
        self.overflowing.set(left);
        sent
    }

    fn deliver(&self, call: u32, reply: R) {
        let mut calls = self.calls.borrow_mut();
        let slot = &mut calls[call as usize];
        match std::mem::replace(slot, Slot::Free) {
            Slot::Waiting(waker) => {
                *slot = Slot::Done(reply);
                drop(calls);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Slot::Abandoned => self.free.borrow_mut().push(call),
            Slot::Free | Slot::Done(_) => unreachable!("one reply to a call"),
        }
    }
}

/// The reply to a [`Port::call`].
pub struct Reply<Q, R, C> {
    port: Rc<Port<Q, R>>,
    call: Option<u32>,
    kind: PhantomData<fn() -> C>,
}

impl<Q, R, C: Call<Q, R>> Future for Reply<Q, R, C> {
    type Output = C::Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Reply> {
        let call = self.call.expect("polled after completion");
        let port = self.port.clone();
        let mut calls = port.calls.borrow_mut();
        let slot = &mut calls[call as usize];
        if let Slot::Waiting(waker) = slot {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Slot::Done(reply) = std::mem::replace(slot, Slot::Free) else { unreachable!("waiting or done") };
        port.free.borrow_mut().push(call);
        self.call = None;
        Poll::Ready(C::from_reply(reply))
    }
}

impl<Q, R, C> Drop for Reply<Q, R, C> {
    fn drop(&mut self) {
        let Some(call) = self.call else { return };
        let mut calls = self.port.calls.borrow_mut();
        if let Slot::Done(_) = std::mem::replace(&mut calls[call as usize], Slot::Abandoned) {
            calls[call as usize] = Slot::Free;
            self.port.free.borrow_mut().push(call);
        }
    }
}

impl<Q, R, C> Unpin for Reply<Q, R, C> {}
