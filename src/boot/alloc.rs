//! The process's allocator: small pieces from mimalloc, large ones from the C library.
//!
//! Batches come and go by the hundred kilobytes and stay in the cache for as long as it has room; the C library keeps
//! and joins what they leave ([`super::trim`]), where mimalloc gives it back and faults it in again. The small pieces
//! of requests are born on one shard and die on another: the C library searches its bins for each of them under a lock,
//! among holes that large buffers left, which took a quarter of a broker's time under many small requests.

use std::alloc::{GlobalAlloc, Layout, System};

use mimalloc::MiMalloc;

/// The largest piece that mimalloc has.
const SMALL: usize = 16 << 10;

struct BySize;

#[global_allocator]
static ALLOCATOR: BySize = BySize;

fn is_small(size: usize) -> bool {
    size <= SMALL
}

// SAFETY: both allocators keep the contract, and the size that decides between them is the same whenever a piece is
// taken, resized or given back.
unsafe impl GlobalAlloc for BySize {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { if is_small(layout.size()) { MiMalloc.alloc(layout) } else { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe {
            if is_small(layout.size()) { MiMalloc.alloc_zeroed(layout) } else { System.alloc_zeroed(layout) }
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the piece is from the allocator that its size leads to.
        unsafe {
            if is_small(layout.size()) { MiMalloc.dealloc(ptr, layout) } else { System.dealloc(ptr, layout) }
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above; a piece that changes sides is copied, and the old one is not used any more.
        unsafe {
            match (is_small(layout.size()), is_small(new_size)) {
                (true, true) => MiMalloc.realloc(ptr, layout, new_size),
                (false, false) => System.realloc(ptr, layout, new_size),
                _ => {
                    let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
                    if !new.is_null() {
                        ptr.copy_to_nonoverlapping(new, layout.size().min(new_size));
                        self.dealloc(ptr, layout);
                    }
                    new
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SMALL;

    #[test]
    fn pieces_change_sides_with_their_content() {
        let mut piece = Vec::new();
        for size in [1, 100, SMALL - 1, SMALL, SMALL + 1, 10 * SMALL, SMALL + 1, SMALL, 7, 3 * SMALL] {
            let kept = piece.len().min(size);
            piece.truncate(size);
            piece.shrink_to_fit();
            assert!(piece.iter().copied().eq((0..kept).map(|i| (i % 251) as u8)));
            piece.extend((kept..size).map(|i| (i % 251) as u8));
        }
        assert!(vec![0_u8; SMALL].iter().chain(&vec![0_u8; SMALL + 1]).all(|b| *b == 0));
    }
}
