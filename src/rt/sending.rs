//! A send from where the bytes are, as the driver keeps it: its bytes stay as they are until the kernel has let go.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use io_uring::cqueue;

/// `IORING_NOTIF_USAGE_ZC_COPIED`, in the second completion's result.
const COPIED: u32 = 1 << 31;

/// One send, until its last completion.
pub(super) struct Sending {
    slices: Vec<Bytes>,
    result: Cell<Option<i32>>,
    pays: Rc<Cell<bool>>,
}

impl Sending {
    /// `pays` turns false when the kernel reports that it had to copy.
    pub(super) fn new(slices: Vec<Bytes>, pays: &Rc<Cell<bool>>) -> Self {
        Self { slices, result: Cell::new(None), pays: pays.clone() }
    }

    pub(super) fn slices(&self) -> &[Bytes] {
        &self.slices
    }

    /// How much the socket took, or the error, once it is known.
    pub(super) fn result(&self) -> Option<i32> {
        self.result.get()
    }

    /// Notes a completion. Returns whether it was the last.
    pub(super) fn complete(&self, result: i32, flags: u32) -> bool {
        if cqueue::notif(flags) {
            if result.cast_unsigned() & COPIED != 0 {
                self.pays.set(false);
            }
            return true;
        }
        self.result.set(Some(result));
        !cqueue::more(flags)
    }
}
