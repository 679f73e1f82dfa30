//! Drives connections: keeps each one's requests in flight, reads answers, counts.
//!
//! Sockets are nonblocking and edge-triggered, so each is read and written until it would block. A
//! request's body is shared by reference and leaves with one vectored write.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Outcome;

/// Length prefix, API key and version, correlation id: what is copied so that the id can be patched.
const HEAD: usize = 12;
/// Requests of one connection that one vectored write takes.
const WRITE_SLICES: usize = 32;
const READ_CHUNK: usize = 256 << 10;
/// A broker that answers nothing for this long is given up.
const SILENCE: Duration = Duration::from_secs(30);
const LONGEST_US: u64 = 600_000_000;

/// The work of one connection.
pub trait Work {
    /// The next request's whole frame, its length first; `None` when there is no more to ask.
    fn next(&mut self) -> Option<Bytes>;
    /// Judges an answer, given without its length prefix.
    fn answer(&mut self, frame: &[u8]) -> Outcome<Answer>;
}

/// What an answer was worth.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    pub records: u64,
    pub bytes: u64,
    /// Kafka's error code; 0 is none.
    pub error: i16,
}

/// What was counted between the warm-up's end and the deadline.
pub struct Tally {
    pub requests: u64,
    pub records: u64,
    pub bytes: u64,
    pub errors: BTreeMap<i16, u64>,
    pub latency_us: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        let latency_us = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("constant bounds are valid");
        Tally { requests: 0, records: 0, bytes: 0, errors: BTreeMap::new(), latency_us }
    }

    fn count(&mut self, answer: Answer, latency: Duration) {
        if answer.error != 0 {
            *self.errors.entry(answer.error).or_default() += 1;
            return;
        }
        self.requests += 1;
        self.records += answer.records;
        self.bytes += answer.bytes;
        self.latency_us.saturating_record(latency.as_micros() as u64);
    }
}

/// When to count and when to stop sending.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub start: Instant,
    pub end: Instant,
}

struct Outgoing {
    head: [u8; HEAD],
    frame: Bytes,
    sent: usize,
}

struct Connection<W> {
    stream: TcpStream,
    work: W,
    outgoing: VecDeque<Outgoing>,
    /// When each request in flight was handed over, oldest first, with its correlation id.
    in_flight: VecDeque<(i32, Instant)>,
    next_id: i32,
    input: Vec<u8>,
    /// The part of `input` that holds bytes not consumed yet.
    filled: std::ops::Range<usize>,
}

/// Runs the works, one a connection, each with `in_flight` requests under way, until the window ends and
/// every request was answered.
pub fn drive<W: Work>(
    streams: Vec<(std::net::TcpStream, W)>,
    in_flight: usize,
    window: Window,
) -> Outcome<Tally> {
    let fail = |error: io::Error| format!("epoll: {error}");
    let mut poll = Poll::new().map_err(fail)?;
    let mut connections = Vec::new();
    for (i, (stream, work)) in streams.into_iter().enumerate() {
        let mut connection = Connection::new(stream, work).map_err(fail)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut connection.stream, Token(i), both).map_err(fail)?;
        for _ in 0..in_flight {
            connection.send_next();
        }
        connection.flush()?;
        connections.push(connection);
    }
    let mut tally = Tally::new();
    let mut events = Events::with_capacity(connections.len().max(1));
    let mut heard = Instant::now();
    while connections.iter().any(|c| !c.in_flight.is_empty()) {
        match poll.poll(&mut events, Some(Duration::from_millis(200))) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(fail)?,
        }
        if !events.is_empty() {
            heard = Instant::now();
        } else if heard.elapsed() > SILENCE {
            return Err(format!("the broker answered nothing for {} s", SILENCE.as_secs()));
        }
        for event in &events {
            let connection = &mut connections[event.token().0];
            if event.is_readable() {
                connection.receive(window, &mut tally)?;
            }
            connection.flush()?;
        }
    }
    Ok(tally)
}

impl<W: Work> Connection<W> {
    fn new(stream: std::net::TcpStream, work: W) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream: TcpStream::from_std(stream),
            work,
            outgoing: VecDeque::new(),
            in_flight: VecDeque::new(),
            next_id: 0,
            input: vec![0; READ_CHUNK],
            filled: 0..0,
        })
    }

    fn send_next(&mut self) {
        let Some(frame) = self.work.next() else { return };
        let mut head: [u8; HEAD] = frame[..HEAD].try_into().expect("a frame is longer than its head");
        head[8..12].copy_from_slice(&self.next_id.to_be_bytes());
        self.in_flight.push_back((self.next_id, Instant::now()));
        self.next_id = self.next_id.wrapping_add(1);
        self.outgoing.push_back(Outgoing { head, frame, sent: 0 });
    }

    fn flush(&mut self) -> Outcome<()> {
        while !self.outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let mut used = 0;
            for out in self.outgoing.iter().take(WRITE_SLICES / 2) {
                slices[used] = IoSlice::new(&out.head[out.sent.min(HEAD)..]);
                slices[used + 1] = IoSlice::new(&out.frame[out.sent.max(HEAD)..]);
                used += 2;
            }
            match self.stream.write_vectored(&slices[..used]) {
                Ok(written) => self.advance(written),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("sending: {error}")),
            }
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(out) = self.outgoing.front_mut() {
            let left = out.frame.len() - out.sent;
            if written < left {
                out.sent += written;
                return;
            }
            written -= left;
            self.outgoing.pop_front();
        }
    }

    fn receive(&mut self, window: Window, tally: &mut Tally) -> Outcome<()> {
        loop {
            self.make_room();
            let room = self.input.len() - self.filled.end;
            let read = match self.stream.read(&mut self.input[self.filled.end..]) {
                Ok(0) => return Err("the broker closed the connection".to_owned()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("receiving: {error}")),
            };
            self.filled.end += read;
            self.answers(window, tally)?;
            // The socket was empty, and what arrives from now on is another event. Reading on could let one
            // connection that is answered at once keep the others waiting.
            if read < room {
                return Ok(());
            }
        }
    }

    /// Moves what is left to the front and grows to hold the whole answer that has begun to arrive.
    fn make_room(&mut self) {
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        let missing = self.expected().saturating_sub(self.filled.len()).max(1);
        if self.input.len() - self.filled.end >= missing {
            return;
        }
        self.input.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        let needed = self.filled.end + missing;
        if needed > self.input.len() {
            self.input.resize(needed.next_power_of_two(), 0);
        }
    }

    /// Length of the answer at the front, its prefix included; of a prefix while that is cut.
    fn expected(&self) -> usize {
        let prefix = self.input[self.filled.clone()].first_chunk::<4>();
        prefix.map_or(4, |p| 4 + u32::from_be_bytes(*p).min(i32::MAX as u32) as usize)
    }

    fn answers(&mut self, window: Window, tally: &mut Tally) -> Outcome<()> {
        while self.filled.len() >= 4 && self.filled.len() >= self.expected() {
            let end = self.filled.start + self.expected();
            let frame = &self.input[self.filled.start + 4..end];
            let (id, sent) = self.in_flight.pop_front().ok_or("an answer that nothing asked for")?;
            let got = frame.first_chunk::<4>().map(|b| i32::from_be_bytes(*b));
            if got != Some(id) {
                return Err(format!("an answer with correlation id {got:?} where {id} was next"));
            }
            let now = Instant::now();
            let answer = self.work.answer(frame)?;
            if now >= window.start && now < window.end {
                tally.count(answer, now - sent);
            }
            self.filled.start = end;
            if now < window.end {
                self.send_next();
            }
        }
        // An answer that frees a place should be followed by the next request before more is read.
        self.flush()
    }
}
