//! One connection: frames in, responses out, in order.
//!
//! All frames that a receive brought are started before any answer is awaited, so that what they append goes to disk in
//! one commit, and all answers that are ready leave in one send. Requests overlap; their responses do not.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::in_flight::InFlight;
use crate::api::{self, Outcome};
use crate::rt;
use crate::rt::net::Stream;
use crate::shard::Shard;
use crate::shard::context::{ConnectionContext, Handoff};
use crate::shard::message;
use crate::shard::metrics::ProtocolError;
use crate::shard::strangers::{self, Door};
use crate::shard::timing::Timed;
use crate::wire::frame;
use crate::wire::stranger::Speaks;

use super::blocked::Blocked;
use super::input::{Input, RECEIVE};
use super::moments::Moments;
use super::outbox::Outbox;

const FETCH: i16 = 1;
/// How soon a connection that is busy when its idle time is up is looked at again.
const IDLE_CHECK: Duration = Duration::from_secs(1);
/// Bytes of responses that may wait for a slow reader before its requests are no longer read.
const UNSENT: usize = 8 * 1024 * 1024;

struct Connection {
    shard: Rc<Shard>,
    stream: Stream,
    context: Rc<ConnectionContext>,
    input: Input,
    in_flight: VecDeque<InFlight>,
    output: Outbox,
    moments: Moments,
    end_of_input: bool,
    /// Why no more is read: what was asked before is still answered, then the connection ends.
    closing: Option<String>,
    memory_wait: Option<rt::Listen>,
    /// An unfinished large frame's part of the shard's budget.
    charged: rt::Charge,
    blocked: Blocked,
    overdraft: bool,
    /// The client is over a quota, and was told to wait: until then nothing of it is read.
    muted: Option<Pin<Box<rt::Sleep>>>,
}

/// How a connection leaves its shard.
enum End {
    Closed,
    /// Another shard serves it better.
    Moves(usize),
}

/// Serves a connection on this shard as a task of its own. The shard's count of connections includes it already.
pub fn serve(shard: &Rc<Shard>, handoff: Handoff) {
    let shard = shard.clone();
    rt::spawn(async move {
        shard.metrics.connection_opened();
        let (socket, context) = ConnectionContext::split(handoff);
        let context = Rc::new(context);
        let (peer, local) = (context.peer, context.local);
        let mut connection = Connection {
            shard: shard.clone(),
            stream: Stream::new(socket, shard.settings().send_zerocopy),
            context: context.clone(),
            input: Input::new(shard.settings().input_buffer_bytes),
            in_flight: VecDeque::new(),
            output: Outbox::default(),
            moments: Moments::new(),
            end_of_input: false,
            closing: None,
            memory_wait: None,
            charged: shard.memory.requests.charge(0),
            blocked: Blocked::default(),
            overdraft: false,
            muted: None,
        };
        let end = connection.run().await;
        connection.abandon();
        shard.metrics.connection_closed();
        shard.connections.end_on(shard.index());
        match end {
            Ok(End::Closed) => {}
            Ok(End::Moves(target)) => match connection.stream.into_socket(peer, local) {
                Ok(socket) => {
                    shard.connections.begin_on(target);
                    drop(shard.port.call(target, message::Connection(context.join(socket))));
                }
                Err(e) => log::debug!("connection from {context} lost on its way to shard {target}: {e}"),
            },
            Err(reason) => log::debug!("connection from {context} closed: {reason}"),
        }
    });
}

impl Connection {
    /// Runs to the end of the connection; an error says why it was not the client's wish.
    async fn run(&mut self) -> Result<End, String> {
        let idle_limit = Duration::from_millis(self.shard.settings().idle_connection_ms);
        let mut idle = Box::pin(rt::sleep(idle_limit));
        let stop = self.shard.stopped();
        let mut stop = std::pin::pin!(stop);
        let mut stopping = false;
        std::future::poll_fn(move |cx| {
            stopping = stopping || stop.as_mut().poll(cx).is_ready();
            match self.poll_once(cx, stopping) {
                Ok(Some(end)) => return Poll::Ready(Ok(end)),
                Ok(None) => {}
                Err(reason) => return Poll::Ready(Err(reason)),
            }
            while idle.as_mut().poll(cx).is_ready() {
                let quiet = self.moments.quiet();
                if quiet >= idle_limit && self.in_flight.is_empty() {
                    return Poll::Ready(Err("idle for too long".into()));
                }
                idle.set(rt::sleep(idle_limit.saturating_sub(quiet).max(IDLE_CHECK)));
            }
            Poll::Pending
        })
        .await
    }

    /// Does everything that can be done now. Returns how the connection ends here, if it does.
    fn poll_once(&mut self, cx: &mut Context<'_>, stopping: bool) -> Result<Option<End>, String> {
        rt::stall::running("connection");
        loop {
            let held_back = self.is_held_back(cx);
            let open = !stopping && self.closing.is_none() && !self.is_muted(cx);
            let mut progress = false;
            if open && !held_back {
                match self.start_requests() {
                    Ok(started) => progress = started,
                    Err(reason) => self.closing = Some(reason),
                }
            }
            if open && (!held_back || self.waits_for_fetch()) {
                progress |= self.poll_receive(cx)?;
            }
            self.poll_answers(cx);
            self.poll_send(cx)?;
            let idle = self.in_flight.is_empty() && self.output.is_empty();
            if idle && let Some(reason) = self.closing.take() {
                return Err(reason);
            }
            if self.end_of_input && self.output.is_empty() && self.only_fetches_wait() {
                return Ok(Some(End::Closed));
            }
            if idle && (stopping || self.end_of_input && !self.input.has_whole_frame()) {
                return Ok(Some(End::Closed));
            }
            if idle
                && self.input.is_empty()
                && self.muted.is_none()
                && let Some(target) = self.destination()
            {
                return Ok(Some(End::Moves(target)));
            }
            // What was answered may have made room for what was held back.
            let released = held_back && !stopping && !self.is_held_back(cx);
            // Also so that the end of a mute that has just begun wakes this task.
            let unmuted = self.muted.is_some() && !self.is_muted(cx);
            if !progress && !released && !unmuted {
                self.moments.pass();
                return Ok(None);
            }
        }
    }

    fn destination(&self) -> Option<usize> {
        let open = self.shard.connections.open();
        self.context.affinity.destination(self.shard.index(), open)
    }

    /// Receives once. Returns whether there is something new.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<bool, String> {
        if self.end_of_input || self.input.has_whole_frame() || self.stream.poll_readable(cx).is_pending() {
            return Ok(false);
        }
        let limit = self.input.reserve();
        let was_empty = self.input.is_empty();
        match self.stream.receive(&mut self.input.buffer, limit) {
            Ok(0) => self.end_of_input = true,
            Ok(_) => {
                self.moments.receive(!was_empty);
                self.charge();
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("receive: {e}")),
        }
        Ok(!self.end_of_input)
    }

    /// Whether requests, and so the socket, are left alone until something under way is done.
    fn is_held_back(&mut self, cx: &mut Context<'_>) -> bool {
        let memory = &self.shard.memory;
        // Who has not taken what it was given is not given more while that is short.
        if self.in_flight.len() >= self.shard.settings().max_in_flight
            || self.output.unsent() > if memory.answers.is_over() { 0 } else { UNSENT }
            || self.has_fetch()
        {
            return true;
        }
        // A connection that holds nothing yet may always send something small: others' load must not lock it out.
        let holds_little =
            self.in_flight.is_empty() && self.output.unsent() == 0 && self.input.len() < RECEIVE;
        let large = self.input.len() >= RECEIVE;
        if holds_little || self.overdraft || !memory.requests.is_over() {
            self.memory_wait = None;
            return false;
        }
        if large && self.in_flight.is_empty() && memory.begin_overdraft() {
            self.overdraft = true;
            self.memory_wait = None;
            return false;
        }
        let wait = self.memory_wait.get_or_insert_with(|| memory.requests.freed().listen());
        if std::pin::Pin::new(wait).poll(cx).is_ready() {
            self.memory_wait = None;
            return self.is_held_back(cx);
        }
        true
    }

    fn is_muted(&mut self, cx: &mut Context<'_>) -> bool {
        if self.muted.as_mut().is_some_and(|mute| mute.as_mut().poll(cx).is_ready()) {
            self.muted = None;
        }
        self.muted.is_some()
    }

    /// Tells the budget what has come of a large frame.
    fn charge(&mut self) {
        let now = if self.input.len() > RECEIVE { self.input.len() } else { 0 };
        self.charged.resize(now);
    }

    fn end_overdraft(&mut self) {
        if std::mem::take(&mut self.overdraft) {
            self.shard.memory.end_overdraft();
        }
    }

    /// A Fetch is the last request under way until it is answered: its response may be large, and it may wait long.
    fn has_fetch(&self) -> bool {
        self.in_flight.back().is_some_and(|request| request.timed.api_key == FETCH)
    }

    /// Whether a Fetch alone holds the connection back: a little is received all the same, to learn that the client
    /// has gone.
    fn waits_for_fetch(&self) -> bool {
        self.has_fetch() && self.input.len() < RECEIVE && self.output.unsent() <= UNSENT
    }

    /// Whether all that is under way is fetches, which nobody waits for once the client has gone.
    fn only_fetches_wait(&self) -> bool {
        !self.in_flight.is_empty() && self.in_flight.iter().all(|request| request.timed.api_key == FETCH)
    }

    /// Starts the requests that are whole, as many as may be under way. Returns whether there was one.
    fn start_requests(&mut self) -> Result<bool, String> {
        let before = self.in_flight.len();
        let limit = self.shard.settings().max_in_flight;
        while self.in_flight.len() < limit
            && !self.has_fetch()
            && let Some(claimed) = self.input.claimed_length()
        {
            let length = match usize::try_from(claimed) {
                Ok(length) if length <= self.shard.settings().max_frame_bytes => length,
                _ => {
                    self.shard.metrics.protocol_error(ProtocolError::FrameTooLarge);
                    self.note_stranger(Speaks::by(&self.input.buffer));
                    return Err(format!("a frame of {claimed} bytes"));
                }
            };
            if self.input.len() < 4 + length {
                break;
            }
            let body = self.input.take_frame(length);
            self.charge();
            self.end_overdraft();
            self.start(body)?;
        }
        Ok(self.in_flight.len() > before)
    }

    fn start(&mut self, mut body: BytesMut) -> Result<(), String> {
        let bytes = body.len();
        let header = match frame::parse_header(&mut body) {
            Ok(header) => header,
            Err(e) => {
                self.shard.metrics.protocol_error(ProtocolError::Malformed);
                self.note_stranger(Speaks::Other);
                return Err(format!("malformed request header: {e}"));
            }
        };
        let api_key = header.api_key;
        self.shard.metrics.request(api_key, bytes);
        let memory = self.shard.memory.requests.charge(bytes);
        // Others' appends do not count.
        self.shard.metrics.timing.take_append();
        let client = header.client_id.clone();
        let timed = Timed::new(api_key, self.context.peer, bytes, self.moments.start());
        let begin = || api::start(&self.shard, &self.context, header, body);
        let request = InFlight::new(&self.shard, timed, memory, &client, begin);
        self.moments.hand_over(request.timed.routed);
        self.in_flight.push_back(request);
        Ok(())
    }

    #[cold]
    fn note_stranger(&self, speaks: Speaks) {
        strangers::note(Door::Kafka, self.context.peer, self.context.local, speaks, rt::unix_ms());
    }

    /// Drives all requests under way, and queues the answers of those whose turn it is.
    fn poll_answers(&mut self, cx: &mut Context<'_>) {
        if !self.in_flight.is_empty() {
            self.moments.pass();
        }
        for request in self.in_flight.iter_mut().filter(|r| r.ready.is_none()) {
            request.poll(&self.shard, cx);
        }
        while let Some(outcome) = self.in_flight.front_mut().and_then(|r| r.ready.take()) {
            let Some(request) = self.in_flight.pop_front() else { unreachable!("it was the first") };
            let timed = request.settle(&self.shard, &self.context);
            let api_key = timed.api_key;
            match outcome {
                Outcome::Silent => self.shard.metrics.response(api_key, 0, timed.took()),
                Outcome::Close(error, reason) => {
                    self.shard.metrics.abandoned(api_key);
                    self.shard.metrics.protocol_error(error);
                    self.closing = Some(reason);
                    return self.abandon_requests();
                }
                Outcome::Respond(slices) => self.respond(slices, None, timed),
                Outcome::Fetched(slices, memory) => self.respond(slices, Some(memory), timed),
                Outcome::Throttled(slices, memory, wait) => {
                    self.respond(slices, memory, timed);
                    self.muted = Some(Box::pin(rt::sleep(wait)));
                }
            }
        }
    }

    /// Queues an answer, with the memory that was taken for it, if any was.
    fn respond(&mut self, slices: Vec<Bytes>, memory: Option<rt::Charge>, timed: Timed) {
        let (api_key, took) = (timed.api_key, timed.took());
        let memory = memory.unwrap_or_else(|| self.shard.memory.answers.charge(0));
        let length = self.output.push(slices, memory, timed);
        self.shard.metrics.response(api_key, length, took);
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), String> {
        while !self.output.is_empty() {
            if self.stream.poll_writable(cx).is_pending() {
                return self.blocked.poll(&self.shard.memory, self.output.unsent(), cx);
            }
            match self.stream.send(self.output.slices()) {
                Ok(sent) => {
                    self.moments.pass();
                    self.blocked.end();
                    self.shard.metrics.sent(sent);
                    self.output.sent(sent.bytes, &self.shard.metrics.timing);
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => return Err(format!("send: {e}")),
            }
        }
        Ok(())
    }

    /// Lets go of what is under way; what it holds of budgets goes back with it.
    fn abandon(&mut self) {
        self.end_overdraft();
        self.abandon_requests();
    }

    fn abandon_requests(&mut self) {
        for request in self.in_flight.drain(..) {
            self.shard.metrics.abandoned(request.timed.api_key);
        }
    }
}
