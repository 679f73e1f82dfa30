//! What a link and its driver share: requests on their way out, and who waits for which answer.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::limits::{Limits, LinkError};
use super::wire::Wire;
use crate::rt;
use crate::wire::read::Reader;

/// What a receive asks for when no large frame is under way.
const RECEIVE: usize = 64 * 1024;
/// A frame's buffer grows by this much at most beyond what has arrived of it.
const GROWTH: usize = 1024 * 1024;

pub(super) struct Pipe {
    limits: Limits,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    out: VecDeque<Bytes>,
    unsent: usize,
    calls: BTreeMap<i32, Call>,
    next: i32,
    ended: Option<LinkError>,
    driver: Option<Waker>,
    /// Those who wait for the end.
    watchers: Vec<Waker>,
}

struct Call {
    until: Instant,
    /// The response's header has tags.
    tagged: bool,
    answer: Answer,
}

enum Answer {
    Awaited(Option<Waker>),
    Here(Result<Bytes, LinkError>),
    /// Nobody waits any more; it will come all the same.
    Unwanted,
}

impl Pipe {
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: RefCell::default() }
    }

    /// A correlation id for a request that is then submitted.
    pub fn claim(&self) -> Result<i32, LinkError> {
        let mut state = self.state.borrow_mut();
        if let Some(why) = &state.ended {
            return Err(why.clone());
        }
        if state.calls.len() >= self.limits.in_flight || state.unsent > self.limits.unsent {
            return Err(LinkError::Busy);
        }
        let id = state.next;
        state.next = id.checked_add(1).unwrap_or(0);
        match state.calls.contains_key(&id) {
            true => Err(LinkError::Busy),
            false => Ok(id),
        }
    }

    pub fn submit(
        self: &Rc<Self>,
        id: i32,
        frame: [Bytes; 2],
        tagged: bool,
        limit: Duration,
    ) -> Result<Reply, LinkError> {
        let mut state = self.state.borrow_mut();
        if let Some(why) = &state.ended {
            return Err(why.clone());
        }
        for part in frame.into_iter().filter(|part| !part.is_empty()) {
            state.unsent += part.len();
            state.out.push_back(part);
        }
        let call = Call { until: rt::now() + limit, tagged, answer: Answer::Awaited(None) };
        state.calls.insert(id, call);
        if let Some(driver) = state.driver.take() {
            driver.wake();
        }
        Ok(Reply { pipe: self.clone(), id: Some(id) })
    }

    pub fn ended(&self) -> Option<LinkError> {
        self.state.borrow().ended.clone()
    }

    pub async fn closed(&self) -> LinkError {
        std::future::poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            match &state.ended {
                Some(why) => Poll::Ready(why.clone()),
                None => {
                    state.watchers.retain(|waker| !waker.will_wake(cx.waker()));
                    state.watchers.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Ends it, once: who waits is told why.
    pub fn end(&self, why: LinkError) {
        let mut state = self.state.borrow_mut();
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(why.clone());
        state.out.clear();
        state.unsent = 0;
        let mut wake = std::mem::take(&mut state.watchers);
        wake.extend(state.driver.take());
        state.calls.retain(|_, call| match &mut call.answer {
            Answer::Unwanted => false,
            Answer::Here(_) => true,
            Answer::Awaited(waker) => {
                wake.extend(waker.take());
                call.answer = Answer::Here(Err(why.clone()));
                true
            }
        });
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }

    fn sent(&self, mut bytes: usize) {
        let state = &mut *self.state.borrow_mut();
        state.unsent -= bytes.min(state.unsent);
        while let Some(front) = state.out.front_mut() {
            if bytes < front.len() {
                return front.advance(bytes);
            }
            bytes -= front.len();
            state.out.pop_front();
        }
    }

    /// An answer came, without its length.
    fn deliver(&self, mut frame: BytesMut) -> Result<(), LinkError> {
        let odd = |what: &str| LinkError::Malformed(format!("an answer {what}"));
        if frame.len() < 4 {
            return Err(odd("without a correlation id"));
        }
        let id = frame.get_i32();
        let mut state = self.state.borrow_mut();
        let call = state.calls.get_mut(&id).ok_or_else(|| odd("to nothing that was asked"))?;
        let mut body = Reader::new(frame);
        if call.tagged {
            body.skip_tags("the response header's tags").map_err(|e| LinkError::Malformed(e.to_string()))?;
        }
        let body = body.into_rest().freeze();
        match std::mem::replace(&mut call.answer, Answer::Here(Ok(body))) {
            Answer::Awaited(waker) => {
                drop(state);
                waker.into_iter().for_each(Waker::wake);
            }
            Answer::Unwanted => drop(state.calls.remove(&id)),
            Answer::Here(_) => return Err(odd("that had come before")),
        }
        Ok(())
    }

    /// When the first of those who wait has waited for too long.
    fn earliest(&self) -> Option<Instant> {
        let state = self.state.borrow();
        let awaited = |call: &&Call| !matches!(call.answer, Answer::Here(_));
        state.calls.values().filter(awaited).map(|call| call.until).min()
    }
}

/// The answer to a request, without its header. Dropped, the answer is thrown away when it comes.
pub struct Reply {
    pipe: Rc<Pipe>,
    id: Option<i32>,
}

impl Future for Reply {
    type Output = Result<Bytes, LinkError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id.expect("polled after completion");
        let mut state = self.pipe.state.borrow_mut();
        let call = state.calls.get_mut(&id).expect("a call is there until its answer is taken");
        if let Answer::Awaited(waker) = &mut call.answer {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(Call { answer: Answer::Here(answer), .. }) = state.calls.remove(&id) else {
            unreachable!("wanted, and here")
        };
        drop(state);
        self.id = None;
        Poll::Ready(answer)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut state = self.pipe.state.borrow_mut();
        match state.calls.get_mut(&id) {
            Some(call) if matches!(call.answer, Answer::Awaited(_)) => call.answer = Answer::Unwanted,
            _ => drop(state.calls.remove(&id)),
        }
    }
}

/// Carries requests and answers until the connection ends, by whoever's wish.
pub(super) async fn drive<W: Wire>(pipe: Rc<Pipe>, wire: W) {
    let mut driver = Driver { pipe: pipe.clone(), wire, input: BytesMut::new(), alarm: None };
    let why = std::future::poll_fn(|cx| driver.poll(cx)).await;
    pipe.end(why);
}

type Sleep = Pin<Box<dyn Future<Output = ()>>>;

struct Driver<W> {
    pipe: Rc<Pipe>,
    wire: W,
    input: BytesMut,
    /// Looks for who has waited for too long: no later than that is so.
    alarm: Option<(Instant, Sleep)>,
}

impl<W: Wire> Driver<W> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkError> {
        {
            let mut state = self.pipe.state.borrow_mut();
            if let Some(why) = &state.ended {
                return Poll::Ready(why.clone());
            }
            state.driver = Some(cx.waker().clone());
        }
        match self.progress(cx) {
            Ok(()) => Poll::Pending,
            Err(why) => Poll::Ready(why),
        }
    }

    /// Does what can be done now.
    fn progress(&mut self, cx: &mut Context<'_>) -> Result<(), LinkError> {
        let closed = |why: &dyn std::fmt::Display| LinkError::Closed(why.to_string().into());
        while !self.pipe.state.borrow().out.is_empty() {
            let sent = self.wire.poll_send(cx, &self.pipe.state.borrow().out);
            match sent {
                Poll::Ready(Ok(bytes)) => self.pipe.sent(bytes),
                Poll::Ready(Err(e)) => return Err(closed(&e)),
                Poll::Pending => break,
            }
        }
        loop {
            self.reserve()?;
            match self.wire.poll_receive(cx, &mut self.input) {
                Poll::Ready(Ok(0)) => return Err(closed(&"the other broker closed it")),
                Poll::Ready(Ok(_)) => self.take_frames()?,
                Poll::Ready(Err(e)) => return Err(closed(&e)),
                Poll::Pending => break,
            }
        }
        self.look_for_late(cx)
    }

    fn claimed(&self) -> Result<Option<usize>, LinkError> {
        let Some(length) = self.input.first_chunk().map(|bytes| i32::from_be_bytes(*bytes)) else {
            return Ok(None);
        };
        match usize::try_from(length) {
            Ok(length) if length <= self.pipe.limits.frame => Ok(Some(length)),
            _ => Err(LinkError::Malformed(format!("an answer of {length} bytes"))),
        }
    }

    /// A claimed length reserves a megabyte at most beyond what has come.
    fn reserve(&mut self) -> Result<(), LinkError> {
        let missing = self.claimed()?.map_or(0, |length| (4 + length).saturating_sub(self.input.len()));
        let spare = self.input.capacity() - self.input.len();
        if spare < missing.min(GROWTH) || spare < RECEIVE / 8 {
            self.input.reserve(missing.clamp(RECEIVE, GROWTH));
        }
        Ok(())
    }

    fn take_frames(&mut self) -> Result<(), LinkError> {
        while let Some(length) = self.claimed()?.filter(|length| self.input.len() >= 4 + length) {
            self.input.advance(4);
            let frame = self.input.split_to(length);
            self.pipe.deliver(frame)?;
        }
        Ok(())
    }

    fn look_for_late(&mut self, cx: &mut Context<'_>) -> Result<(), LinkError> {
        loop {
            if self.alarm.is_none() || self.earliest_is_sooner() {
                let Some(earliest) = self.pipe.earliest() else { return Ok(()) };
                let now = rt::now();
                if earliest <= now {
                    return Err(LinkError::Closed("a request was not answered in time".into()));
                }
                self.alarm = Some((earliest, Box::pin(W::sleep(earliest - now))));
            }
            let Some((_, alarm)) = &mut self.alarm else { return Ok(()) };
            if alarm.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.alarm = None;
        }
    }

    /// Whether the alarm would come too late.
    fn earliest_is_sooner(&self) -> bool {
        let (Some(earliest), Some((at, _))) = (self.pipe.earliest(), &self.alarm) else { return false };
        earliest < *at
    }
}
