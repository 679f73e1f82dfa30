//! One connection to one broker: frames queued and written until the socket would block, answers cut out of what
//! arrives and matched to their requests in order.
//!
//! Sockets are nonblocking and edge-triggered. A request's body is shared by reference and leaves with one
//! vectored write; only its first twelve bytes are copied, so that the correlation id can be patched.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::ops::Range;

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::Outcome;

/// Length prefix, API key and version, correlation id.
pub const HEAD: usize = 12;
/// Pieces that one vectored write takes.
const WRITE_SLICES: usize = 48;
const READ_CHUNK: usize = 64 << 10;

/// A request's bytes: the head, whose correlation id is to be patched, and the rest in up to two pieces.
pub struct Frame {
    pub head: [u8; HEAD],
    pub middle: Piece,
    pub body: Bytes,
}

/// Bytes that are shared, or that go back to where they were built.
pub enum Piece {
    Shared(Bytes),
    Owned(Vec<u8>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Shared(bytes) => bytes,
            Piece::Owned(bytes) => bytes,
        }
    }
}

impl Frame {
    /// A request encoded as one piece, length prefix included.
    pub fn whole(mut frame: Vec<u8>) -> Frame {
        let head = *frame.first_chunk().expect("a frame is longer than its head");
        frame.drain(..HEAD);
        Frame { head, middle: Piece::Owned(frame), body: Bytes::new() }
    }

    fn len(&self) -> usize {
        HEAD + self.middle.bytes().len() + self.body.len()
    }
}

pub struct Lane {
    stream: TcpStream,
    outgoing: VecDeque<(Frame, usize)>,
    /// Correlation ids of requests that are to be answered, oldest first.
    expected: VecDeque<i32>,
    next_id: i32,
    input: Vec<u8>,
    /// The part of `input` that holds bytes not consumed yet.
    filled: Range<usize>,
    /// Buffers of frames that were sent, for the next ones.
    spare: Vec<Vec<u8>>,
}

impl Lane {
    pub fn new(stream: std::net::TcpStream, registry: &Registry, token: usize) -> Outcome<Lane> {
        let fail = |e: io::Error| format!("socket: {e}");
        stream.set_nonblocking(true).map_err(fail)?;
        stream.set_nodelay(true).map_err(fail)?;
        let mut stream = TcpStream::from_std(stream);
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(token), both).map_err(fail)?;
        Ok(Lane {
            stream,
            outgoing: VecDeque::new(),
            expected: VecDeque::new(),
            next_id: 0,
            input: Vec::new(),
            filled: 0..0,
            spare: Vec::new(),
        })
    }

    /// An empty buffer to build a frame in.
    pub fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// Queues a request; `flush` sends it.
    pub fn push(&mut self, mut frame: Frame, answered: bool) {
        frame.head[8..12].copy_from_slice(&self.next_id.to_be_bytes());
        if answered {
            self.expected.push_back(self.next_id);
        }
        self.next_id = self.next_id.wrapping_add(1);
        self.outgoing.push_back((frame, 0));
    }

    /// Requests that have not been handed to the kernel whole.
    pub fn unsent(&self) -> usize {
        self.outgoing.len()
    }

    pub fn flush(&mut self) -> Outcome<()> {
        while !self.outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let mut used = 0;
            for (frame, sent) in self.outgoing.iter().take(WRITE_SLICES / 3) {
                let mut skip = *sent;
                for piece in [&frame.head[..], frame.middle.bytes(), &frame.body[..]] {
                    let rest = &piece[skip.min(piece.len())..];
                    skip -= piece.len() - rest.len();
                    if !rest.is_empty() {
                        slices[used] = IoSlice::new(rest);
                        used += 1;
                    }
                }
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
        while let Some((frame, sent)) = self.outgoing.front_mut() {
            let left = frame.len() - *sent;
            if written < left {
                *sent += written;
                return;
            }
            written -= left;
            let frame = self.outgoing.pop_front().map(|(frame, _)| frame);
            if let Some(Frame { middle: Piece::Owned(buffer), .. }) = frame {
                self.spare.push(buffer);
            }
        }
    }

    /// Reads once. False when the socket has no more for now; its next event tells.
    pub fn receive(&mut self) -> Outcome<bool> {
        self.make_room();
        let room = self.input.len() - self.filled.end;
        match self.stream.read(&mut self.input[self.filled.end..]) {
            Ok(0) => Err("the broker closed the connection".to_owned()),
            Ok(read) => {
                self.filled.end += read;
                Ok(read == room)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(format!("receiving: {error}")),
        }
    }

    /// Moves what is left to the front and grows to hold the whole answer that has begun to arrive.
    fn make_room(&mut self) {
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        let missing = self.length().saturating_sub(self.filled.len()).max(1);
        if self.input.len() - self.filled.end >= missing {
            return;
        }
        self.input.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        let needed = (self.filled.end + missing).max(READ_CHUNK);
        if needed > self.input.len() {
            self.input.resize(needed.next_power_of_two(), 0);
        }
    }

    /// Length of the answer at the front, its prefix included; of a prefix while that is cut.
    fn length(&self) -> usize {
        let prefix = self.input[self.filled.clone()].first_chunk::<4>();
        prefix.map_or(4, |p| 4 + u32::from_be_bytes(*p).min(i32::MAX as u32) as usize)
    }

    /// The next whole answer, without its length and correlation id, as a range of [`Lane::bytes`]. It is
    /// there until the next call of `receive`.
    pub fn answer(&mut self) -> Outcome<Option<Range<usize>>> {
        let length = self.length();
        if self.filled.len() < 4 || self.filled.len() < length {
            return Ok(None);
        }
        let frame = self.filled.start + 4..self.filled.start + length;
        let id = self.expected.pop_front().ok_or("an answer that nothing asked for")?;
        let got = self.input[frame.clone()].first_chunk::<4>().map(|b| i32::from_be_bytes(*b));
        if got != Some(id) {
            return Err(format!("an answer with correlation id {got:?} where {id} was next"));
        }
        self.filled.start = frame.end;
        Ok(Some(frame.start + 4..frame.end))
    }

    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.input[range]
    }
}
