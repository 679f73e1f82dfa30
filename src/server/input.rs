//! What has arrived on a connection and is not a request yet.

use bytes::{Buf, BytesMut};

/// What a receive asks for when no large frame is under way.
pub const RECEIVE: usize = 64 * 1024;
/// A frame's buffer grows by this much at most beyond what has arrived of it.
const GROWTH: usize = 1024 * 1024;

pub struct Input {
    pub buffer: BytesMut,
    /// What is reserved where no large frame is under way.
    chunk: usize,
    /// The size of the last frame if it was large: the next is likely to be as large.
    expected: usize,
}

impl Input {
    /// Reserves `chunk` bytes at a time, [`RECEIVE`] at most.
    pub fn new(chunk: usize) -> Self {
        Self { buffer: BytesMut::new(), chunk: chunk.min(RECEIVE), expected: 0 }
    }

    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The length that the frame at the front claims.
    pub fn claimed_length(&self) -> Option<i32> {
        self.buffer.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
    }

    pub fn has_whole_frame(&self) -> bool {
        self.claimed_length().is_some_and(|n| usize::try_from(n).is_ok_and(|n| self.len() >= 4 + n))
    }

    /// Takes the frame at the front, which is whole.
    pub fn take_frame(&mut self, length: usize) -> BytesMut {
        self.expected = if length > RECEIVE / 2 { length + 4 } else { 0 };
        self.buffer.advance(4);
        self.buffer.split_to(length)
    }

    /// Makes room for what is known to come, but never much more than has come: a claimed length reserves a megabyte at
    /// most. Returns what to receive: a large frame's end is the limit, so that the next one starts a buffer of its own
    /// and none of its bytes is moved.
    pub fn reserve(&mut self) -> usize {
        let here = self.len();
        let frame = self.claimed_length().map_or(self.expected, |length| length.max(0) as usize + 4);
        let missing = frame.saturating_sub(here);
        if here + missing > self.chunk / 2 {
            let want = missing.min(GROWTH.max(here));
            self.buffer.reserve(want);
            return want;
        }
        if self.buffer.capacity() - here < self.chunk / 8 {
            self.buffer.reserve(self.chunk);
        }
        self.buffer.capacity() - here
    }
}
