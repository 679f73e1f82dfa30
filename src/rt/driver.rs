//! One shard's own io_uring: file operations and socket readiness.
//!
//! Why not glommio's rings: its park costs a `membarrier` and three ring enters for each wake-up, a commit through
//! it 100 µs more than on a bare ring, and its buffers cannot leave their thread. glommio remains the executor.
//!
//! Ownership rule: an operation's buffer and descriptor live in its slot here until the kernel's last
//! completion for it, also when the future that waits for it is dropped.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::aligned::AlignedBuf;
use super::helper::process_cores;

const RING_ENTRIES: u32 = 1024;
/// `IORING_ENTER_GETEVENTS`: run the deferred completions, wanted or not.
const GETEVENTS: u32 = 1;
/// Completions of cancellations, which nobody waits for.
const NOBODY: u64 = u64::MAX;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Driver>>> = const { RefCell::new(None) };
}

/// What an operation in flight keeps alive.
pub(super) enum Held {
    Buffer(AlignedBuf),
    Nothing,
}

enum Slot {
    Free,
    /// A file operation.
    File {
        waker: Option<Waker>,
        result: Option<i32>,
        held: Held,
        fd: Rc<OwnedFd>,
        orphan: bool,
    },
    /// A readiness watch; the kernel reports until it says that it will not.
    Watch(Rc<Watch>),
}

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

pub struct Driver {
    ring: RefCell<IoUring>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    /// Submissions that found the queue full.
    backlog: RefCell<VecDeque<squeue::Entry>>,
}

impl Driver {
    /// Makes the ring of this thread. Fails where io_uring is not allowed.
    pub(super) fn install() -> io::Result<Rc<Self>> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(RING_ENTRIES * 8)
            .build(RING_ENTRIES)?;
        unpin_workers(&ring);
        let driver = Rc::new(Self {
            ring: RefCell::new(ring),
            slots: RefCell::default(),
            free: RefCell::default(),
            backlog: RefCell::default(),
        });
        CURRENT.with(|c| *c.borrow_mut() = Some(driver.clone()));
        Ok(driver)
    }

    pub(super) fn uninstall() {
        CURRENT.with(|c| *c.borrow_mut() = None);
    }

    pub(super) fn current() -> Rc<Self> {
        CURRENT.with(|c| c.borrow().clone()).expect("rt is used outside of its runtime")
    }

    fn insert(&self, slot: Slot) -> u32 {
        let mut slots = self.slots.borrow_mut();
        match self.free.borrow_mut().pop() {
            Some(key) => {
                slots[key as usize] = slot;
                key
            }
            None => {
                slots.push(slot);
                (slots.len() - 1) as u32
            }
        }
    }

    fn remove(&self, key: u32) -> Slot {
        self.free.borrow_mut().push(key);
        std::mem::replace(&mut self.slots.borrow_mut()[key as usize], Slot::Free)
    }

    fn push(&self, entry: squeue::Entry) {
        let mut ring = self.ring.borrow_mut();
        let mut backlog = self.backlog.borrow_mut();
        let mut queue = ring.submission();
        // SAFETY: every entry's buffer and descriptor are held by its slot until its completion.
        if !backlog.is_empty() || unsafe { queue.push(&entry) }.is_err() {
            backlog.push_back(entry);
        }
    }

    /// Submits what is queued and handles what has completed, without waiting. Returns the completions handled.
    pub(super) fn turn(&self) -> usize {
        let enter = {
            let mut ring = self.ring.borrow_mut();
            let queue = ring.submission();
            !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
        };
        if enter {
            self.enter(0, None);
        }
        self.reap()
    }

    /// Submits, then sleeps until a completion or the timeout. Returns the completions handled.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> usize {
        self.enter(1, timeout);
        self.reap()
    }

    fn enter(&self, want: u32, timeout: Option<Duration>) {
        let ring = self.ring.borrow();
        let submitter = ring.submitter();
        let outcome = match timeout {
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                submitter.submit_with_args(want as usize, &SubmitArgs::new().timespec(&timespec))
            }
            None => {
                // SAFETY: the driver is single-threaded, and no other view of the submission queue is alive here.
                let queued = unsafe { ring.submission_shared() }.len() as u32;
                // SAFETY: no argument is passed.
                unsafe { submitter.enter::<libc::sigset_t>(queued, want, GETEVENTS, None) }
            }
        };
        match outcome {
            Ok(_) => {}
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) => {}
            Err(e) => panic!("io_uring_enter: {e}"),
        }
    }

    /// Handles what has completed, without a system call. Returns how much that was.
    pub(super) fn reap(&self) -> usize {
        let mut batch = [const { None }; 64];
        let mut total = 0;
        loop {
            let mut n = 0;
            {
                let mut ring = self.ring.borrow_mut();
                let mut queue = ring.completion();
                while n < batch.len() {
                    let Some(entry) = queue.next() else { break };
                    batch[n] = Some((entry.user_data(), entry.result(), entry.flags()));
                    n += 1;
                }
            }
            for entry in &mut batch[..n] {
                let (key, result, flags) = entry.take().expect("filled above");
                if key == NOBODY {
                    continue;
                }
                self.complete(key as u32, result, flags);
            }
            total += n;
            if n < batch.len() {
                break;
            }
        }
        self.retry_backlog();
        total
    }

    fn retry_backlog(&self) {
        while !self.backlog.borrow().is_empty() {
            {
                let mut ring = self.ring.borrow_mut();
                let mut backlog = self.backlog.borrow_mut();
                // SAFETY: as in `push`.
                while backlog.front().is_some_and(|e| unsafe { ring.submission().push(e) }.is_ok()) {
                    backlog.pop_front();
                }
            }
            self.enter(0, None);
        }
    }

    fn complete(&self, key: u32, result: i32, flags: u32) {
        let mut slots = self.slots.borrow_mut();
        match &mut slots[key as usize] {
            Slot::Free => {}
            Slot::File { waker, result: outcome, orphan, .. } => {
                *outcome = Some(result);
                if *orphan {
                    drop(slots);
                    self.remove(key);
                } else if let Some(waker) = waker.take() {
                    drop(slots);
                    waker.wake();
                }
            }
            Slot::Watch(watch) => {
                let watch = watch.clone();
                drop(slots);
                let last = !cqueue::more(flags);
                if last {
                    self.remove(key);
                }
                self.report(&watch, key, result, last);
            }
        }
    }

    fn report(&self, watch: &Rc<Watch>, key: u32, result: i32, last: bool) {
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
            let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(u64::from(key))).build();
            self.push(entry.user_data(NOBODY));
        }
    }

    pub(super) fn submit_file(
        self: &Rc<Self>,
        fd: Rc<OwnedFd>,
        held: Held,
        build: impl FnOnce(Fd) -> squeue::Entry,
    ) -> FileOp {
        let entry = build(Fd(fd.as_raw_fd()));
        let key = self.insert(Slot::File { waker: None, result: None, held, fd, orphan: false });
        self.push(entry.user_data(u64::from(key)));
        FileOp { driver: self.clone(), key: Some(key) }
    }
}

/// fsync runs on kernel workers that inherit the shard's pinned core: let them run on any core that the process may
/// use, so that a busy shard does not starve its own commit.
fn unpin_workers(ring: &IoUring) {
    let Some(cores) = process_cores() else { return };
    if let Err(e) = ring.submitter().register_iowq_aff(&cores) {
        log::debug!("io_uring workers stay on the shard's core: {e}");
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

/// A file operation under way. Dropping it does not cancel it: its buffer stays owned by the driver.
pub(super) struct FileOp {
    driver: Rc<Driver>,
    key: Option<u32>,
}

impl Future for FileOp {
    type Output = (io::Result<usize>, Held);

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key.expect("polled after completion");
        {
            let mut slots = self.driver.slots.borrow_mut();
            let Slot::File { waker, result, .. } = &mut slots[key as usize] else {
                unreachable!("a file slot")
            };
            if result.is_none() {
                *waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.key = None;
        let Slot::File { result: Some(result), held, fd, .. } = self.driver.remove(key) else {
            unreachable!("a file slot with its result")
        };
        drop(fd);
        let outcome =
            if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result as usize) };
        Poll::Ready((outcome, held))
    }
}

impl Drop for FileOp {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let done = {
            let mut slots = self.driver.slots.borrow_mut();
            let Slot::File { result, orphan, .. } = &mut slots[key as usize] else {
                unreachable!("a file slot")
            };
            *orphan = true;
            result.is_some()
        };
        if done {
            self.driver.remove(key);
        }
    }
}
