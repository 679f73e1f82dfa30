//! Page-aligned owned memory for direct I/O.
//!
//! It is `Send`, so that what was read from disk on one shard leaves through a connection of another without a copy:
//! [`AlignedBuf::freeze`] turns the memory into [`Bytes`].

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::ptr::NonNull;

use bytes::Bytes;

/// The unit of direct I/O: positions, lengths and addresses are multiples of it.
pub const BLOCK: usize = 4096;

/// Buffers of these sizes are kept for [`AlignedBuf::recycled`] when dropped: fresh pages cost more to fault in and
/// zero than the disk takes to fill them.
const RECYCLED_BYTES: RangeInclusive<usize> = (32 << 10)..=(2 << 20);
/// What a shard keeps at most, unless it is told otherwise: chunks on their way to segments, and those being filled
/// meanwhile. Other threads keep none: nobody would use it again there.
pub(super) const MAX_SPARE_BYTES: usize = 32 << 20;

thread_local! {
    static MOST_SPARE: Cell<usize> = const { Cell::new(0) };
    static SPARE: RefCell<Vec<AlignedBuf>> = const { RefCell::new(Vec::new()) };
}

/// A [`BLOCK`]-aligned buffer with a length, like a `Vec<u8>` that never moves and never grows.
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    capacity: usize,
    len: usize,
    /// Bytes that were ever written; those of `len` are among them.
    written: usize,
}

// SAFETY: the buffer owns its memory; nothing else points into it.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// An empty buffer of at least `capacity` bytes, rounded up to whole blocks.
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(BLOCK).max(BLOCK);
        let layout = Self::layout(capacity);
        // SAFETY: the layout's size is never zero.
        let ptr = unsafe { alloc(layout) };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout) };
        Self { ptr, capacity, len: 0, written: 0 }
    }

    /// As [`with_capacity`](Self::with_capacity), but the memory may hold what an earlier buffer held. Sizes that are
    /// kept are rounded up to eighths of a power of two, so that a buffer serves again whoever needed it first.
    pub fn recycled(capacity: usize) -> Self {
        let mut wanted = capacity.next_multiple_of(BLOCK).max(BLOCK);
        if RECYCLED_BYTES.contains(&wanted) {
            wanted = wanted.next_multiple_of((wanted.next_power_of_two() / 8).max(BLOCK));
        }
        let fits = |b: &Self| b.capacity >= wanted && b.capacity <= wanted.saturating_mul(2);
        let found = SPARE.with_borrow_mut(|spare| {
            let at = spare.iter().rposition(fits)?;
            Some(spare.swap_remove(at))
        });
        found.unwrap_or_else(|| Self::with_capacity(wanted))
    }

    /// How many bytes this thread may keep for later buffers.
    pub fn keep_at_most(bytes: usize) {
        MOST_SPARE.set(bytes.min(MAX_SPARE_BYTES));
        Self::trim();
    }

    /// Lets the memory go that this thread keeps for later buffers.
    pub fn trim() {
        for buf in SPARE.take() {
            // SAFETY: it is not dropped as well.
            unsafe { ManuallyDrop::new(buf).free() };
        }
    }

    /// # Safety
    /// The buffer is not used, dropped or freed after this.
    unsafe fn free(&mut self) {
        // SAFETY: allocated in `with_capacity` with the same layout.
        unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.capacity)) }
    }

    /// Keeps the memory for a later buffer of this thread, if there is room for it.
    fn keep(&self) -> bool {
        if !RECYCLED_BYTES.contains(&self.capacity) {
            return false;
        }
        let kept = SPARE.try_with(|spare| {
            // Borrowed only when the thread ends and drops what it kept.
            let Ok(mut spare) = spare.try_borrow_mut() else { return false };
            let room = spare.iter().map(|b| b.capacity).sum::<usize>() + self.capacity <= MOST_SPARE.get();
            if room {
                spare.push(Self { ptr: self.ptr, capacity: self.capacity, len: 0, written: self.written });
            }
            room
        });
        kept.unwrap_or(false)
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, BLOCK).expect("a block-aligned layout")
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` bytes were written and are within the allocation.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as `as_slice`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    /// Appends `bytes`. Panics past the capacity: callers check for room, so an overflow is a bug.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        assert!(end <= self.capacity, "{end} bytes do not fit into {}", self.capacity);
        // SAFETY: the target is within the allocation, and nobody else has a view of it.
        unsafe { self.ptr.as_ptr().add(self.len).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.len = end;
        self.written = self.written.max(end);
    }

    /// Sets the length. The bytes gained are whatever the memory holds: zeros, or what was there before.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity, "{len} bytes do not fit into {}", self.capacity);
        if len > self.written {
            // SAFETY: the range is within the allocation, and nobody else has a view of it.
            unsafe { self.ptr.as_ptr().add(self.written).write_bytes(0, len - self.written) };
            self.written = len;
        }
        self.len = len;
    }

    /// Says that others wrote up to `end`.
    ///
    /// # Safety
    /// What lies between the bytes written before and `end` was written.
    pub(super) unsafe fn assume_written(&mut self, end: usize) {
        self.written = self.written.max(end);
    }

    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Zero-fills up to the next block boundary.
    pub fn pad_to_block(&mut self) {
        let start = self.len;
        self.set_len(start.next_multiple_of(BLOCK));
        self.as_mut_slice()[start..].fill(0);
    }

    /// Gives the memory up to reference-counted slices, without copying.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if !self.keep() {
            // SAFETY: it is being dropped.
            unsafe { self.free() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_buffers_are_used_again() {
        AlignedBuf::keep_at_most(MAX_SPARE_BYTES);
        let mut buf = AlignedBuf::with_capacity(64 << 10);
        buf.extend_from_slice(&[7; 100]);
        let memory = buf.as_slice().as_ptr();
        let frozen = buf.freeze();
        assert_ne!(AlignedBuf::recycled(64 << 10).as_slice().as_ptr(), memory, "still in use");
        drop(frozen);
        let again = [AlignedBuf::recycled(60 << 10), AlignedBuf::recycled(60 << 10)];
        assert!(again.iter().any(|b| b.as_slice().as_ptr() == memory));
        assert!(again.iter().all(AlignedBuf::is_empty));
        assert!(AlignedBuf::with_capacity(64 << 10).as_slice().as_ptr() != memory);
        drop((0..20).map(|_| AlignedBuf::with_capacity(2 << 20)).collect::<Vec<_>>());
        let spare = || SPARE.with_borrow(|s| s.iter().map(|b| b.capacity).sum::<usize>());
        assert!((1..=MAX_SPARE_BYTES).contains(&spare()));
        AlignedBuf::trim();
        assert_eq!(spare(), 0);
    }

    #[test]
    fn bytes_gained_are_never_memory_that_nobody_wrote() {
        let mut buf = AlignedBuf::with_capacity(2 * BLOCK);
        buf.extend_from_slice(b"abc");
        buf.set_len(2 * BLOCK);
        assert_eq!(&buf.as_slice()[..3], b"abc");
        assert!(buf.as_slice()[3..].iter().all(|b| *b == 0));
        buf.truncate(0);
        buf.set_len(3);
        assert_eq!(buf.as_slice(), b"abc");
    }

    #[test]
    fn pads_with_zeros_even_when_reused() {
        let mut buf = AlignedBuf::with_capacity(1);
        buf.extend_from_slice(&[7; BLOCK]);
        buf.truncate(0);
        buf.extend_from_slice(b"abc");
        buf.pad_to_block();
        assert_eq!(buf.len(), BLOCK);
        assert_eq!(&buf.as_slice()[..3], b"abc");
        assert!(buf.as_slice()[3..].iter().all(|b| *b == 0));
        assert_eq!(buf.freeze().slice(..3), "abc");
    }
}
