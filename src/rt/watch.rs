//! The readiness of a descriptor as the kernel last reported it, edge-triggered: what the driver keeps while it watches.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd};
use std::task::{Context, Poll, Waker};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

/// The readiness of one descriptor, as last reported.
pub(super) struct Watch {
    pub(super) fd: OwnedFd,
    readable: Cell<bool>,
    /// The peer has ended its side: receiving never has to wait again.
    ended: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writable: Cell<bool>,
    writer: RefCell<Option<Waker>>,
    watching_write: Cell<bool>,
    read_key: Cell<Option<u32>>,
    write_key: Cell<Option<u32>>,
    closed: Cell<bool>,
}

impl Watch {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            readable: Cell::new(false),
            ended: Cell::new(false),
            reader: RefCell::default(),
            writable: Cell::new(true),
            writer: RefCell::default(),
            watching_write: Cell::new(false),
            read_key: Cell::new(None),
            write_key: Cell::new(None),
            closed: Cell::new(false),
        }
    }

    /// Notes that the kernel polls for reading under this key, and says how: until it says that it will not any more.
    pub(super) fn begin_read(&self, key: u32) -> squeue::Entry {
        self.read_key.set(Some(key));
        let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
        opcode::PollAdd::new(Fd(self.fd.as_raw_fd()), events).multi(true).build()
    }

    /// Whether a poll for writing is to begin: there is one at a time.
    pub(super) fn wants_write(&self) -> bool {
        !self.watching_write.replace(true)
    }

    /// As [`Self::begin_read`], for writing, once.
    pub(super) fn begin_write(&self, key: u32) -> squeue::Entry {
        self.write_key.set(Some(key));
        opcode::PollAdd::new(Fd(self.fd.as_raw_fd()), libc::POLLOUT as u32).build()
    }

    /// Takes a report of the poll with this key in. Returns whether it has to begin again, for reading.
    pub(super) fn report(&self, key: u32, result: i32, last: bool) -> bool {
        if self.read_key.get() != Some(key) {
            self.write_key.set(None);
            self.watching_write.set(false);
            self.writable.set(true);
            if let Some(waker) = self.writer.borrow_mut().take() {
                waker.wake();
            }
            return false;
        }
        self.readable.set(true);
        let end = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
        if result < 0 || result & i32::from(end) != 0 {
            self.ended.set(true);
        }
        if last {
            self.read_key.set(None);
        }
        if let Some(waker) = self.reader.borrow_mut().take() {
            waker.wake();
        }
        // An overflow ends a multishot poll; errors and hang-ups show at the next receive.
        last && result >= 0 && !self.closed.get()
    }

    /// Ends it; returns the keys of the polls that are under way.
    pub(super) fn close(&self) -> impl Iterator<Item = u32> + use<> {
        self.closed.set(true);
        [self.read_key.get(), self.write_key.get()].into_iter().flatten()
    }

    /// Whether a receive may find something; otherwise the task is woken when it may.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.readable.get() {
            return Poll::Ready(());
        }
        *self.reader.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// A receive came back with less than was asked for: nothing more until the next report.
    pub(super) fn clear_readable(&self) {
        self.readable.set(self.ended.get());
    }

    /// Whether a send may be taken; otherwise the task is woken when it may, once the kernel is asked for that.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.writable.get() {
            return Poll::Ready(());
        }
        *self.writer.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn clear_writable(&self) {
        self.writable.set(false);
    }
}
