//! The readiness of descriptors, edge-triggered: a multishot poll for reading that stays, one poll for each wait to write.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::opcode;
use io_uring::types::Fd;

use super::driver::{Driver, Slot};

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

impl Driver {
    pub(super) fn report(&self, watch: &Rc<Watch>, key: u32, result: i32, last: bool) {
        let read = watch.read_key.get() == Some(key);
        if read {
            watch.readable.set(true);
            let end = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
            if result < 0 || result & i32::from(end) != 0 {
                watch.ended.set(true);
            }
            if last {
                watch.read_key.set(None);
            }
            // An overflow ends a multishot poll; errors and hang-ups show at the next receive.
            if last && result >= 0 && !watch.closed.get() {
                self.watch_read(watch);
            }
            if let Some(waker) = watch.reader.borrow_mut().take() {
                waker.wake();
            }
        } else {
            watch.write_key.set(None);
            watch.watching_write.set(false);
            watch.writable.set(true);
            if let Some(waker) = watch.writer.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Starts to watch a descriptor's readiness, edge-triggered.
    pub(super) fn watch(self: &Rc<Self>, fd: OwnedFd) -> Rc<Watch> {
        let watch = Rc::new(Watch {
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
        });
        self.watch_read(&watch);
        watch
    }

    fn watch_read(&self, watch: &Rc<Watch>) {
        let key = self.insert(Slot::Watch(watch.clone()));
        watch.read_key.set(Some(key));
        let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
        let entry = opcode::PollAdd::new(Fd(watch.fd.as_raw_fd()), events).multi(true).build();
        self.push(entry.user_data(u64::from(key)));
    }

    fn watch_write(&self, watch: &Rc<Watch>) {
        if watch.watching_write.replace(true) {
            return;
        }
        let key = self.insert(Slot::Watch(watch.clone()));
        watch.write_key.set(Some(key));
        let entry = opcode::PollAdd::new(Fd(watch.fd.as_raw_fd()), libc::POLLOUT as u32).build();
        self.push(entry.user_data(u64::from(key)));
    }

    /// Ends a watch: the kernel lets go of the descriptor once its polls are cancelled.
    pub(super) fn unwatch(&self, watch: &Watch) {
        watch.closed.set(true);
        for key in [watch.read_key.get(), watch.write_key.get()].into_iter().flatten() {
            self.cancel(key);
        }
    }
}

impl Watch {
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

    pub(super) fn poll_writable(self: &Rc<Self>, driver: &Driver, cx: &mut Context<'_>) -> Poll<()> {
        if self.writable.get() {
            return Poll::Ready(());
        }
        *self.writer.borrow_mut() = Some(cx.waker().clone());
        driver.watch_write(self);
        Poll::Pending
    }

    pub(super) fn clear_writable(&self) {
        self.writable.set(false);
    }
}
