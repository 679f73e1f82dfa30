//! One shard's own io_uring: file operations and socket readiness.
//!
//! Ownership rule: an operation's buffer and descriptor live in its slot here until the kernel's last
//! completion for it, also when the future that waits for it is dropped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::address::Address;
use super::aligned::AlignedBuf;
use super::helper::process_cores;
use super::refused::Refused;
use super::sending::Sending;
use super::watch::Watch;

const RING_ENTRIES: u32 = 1024;
/// `IORING_ENTER_GETEVENTS`: run the deferred completions, wanted or not.
const GETEVENTS: u32 = 1;
/// Completions of cancellations, which nobody waits for.
pub(super) const NOBODY: u64 = u64::MAX;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Driver>>> = const { RefCell::new(None) };
}

/// What an operation in flight keeps alive.
pub(super) enum Held {
    Buffer(AlignedBuf),
    Address(#[expect(dead_code, reason = "the kernel reads it")] Box<Address>),
    Nothing,
}

pub(super) enum Slot {
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
    /// A send whose bytes the kernel still takes from where they are.
    Send(Rc<Sending>),
}

pub struct Driver {
    ring: RefCell<IoUring>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    /// Submissions that found the queue full.
    backlog: RefCell<VecDeque<squeue::Entry>>,
}

impl Driver {
    /// Makes the ring of this thread.
    pub(super) fn install() -> Result<Rc<Self>, Refused> {
        let ring = ring()?;
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

    pub(super) fn insert(&self, slot: Slot) -> u32 {
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

    pub(super) fn push(&self, entry: squeue::Entry) {
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

    pub(super) fn enter(&self, want: u32, timeout: Option<Duration>) {
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
                if watch.report(key, result, last) {
                    self.watch_read(&watch);
                }
            }
            Slot::Send(sending) => {
                if sending.complete(result, flags) {
                    drop(slots);
                    self.remove(key);
                }
            }
        }
    }

    /// Submits a file operation at once: the disk is slower than the tasks that may run before the next sleep.
    pub(super) fn submit_file(
        self: &Rc<Self>,
        fd: Rc<OwnedFd>,
        held: Held,
        build: impl FnOnce(Fd) -> squeue::Entry,
    ) -> FileOp {
        let entry = build(Fd(fd.as_raw_fd()));
        let key = self.insert(Slot::File { waker: None, result: None, held, fd, orphan: false });
        self.push(entry.user_data(u64::from(key)));
        self.enter(0, None);
        FileOp { driver: self.clone(), key: Some(key), cancels: false }
    }
}

impl Driver {
    /// Has the kernel report whenever a descriptor becomes readable.
    pub(super) fn watch_read(&self, watch: &Rc<Watch>) {
        let key = self.insert(Slot::Watch(watch.clone()));
        self.push(watch.begin_read(key).user_data(u64::from(key)));
    }

    /// Asks the kernel to give an operation up; it completes all the same.
    pub(super) fn cancel(&self, key: u32) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(u64::from(key))).build();
        self.push(entry.user_data(NOBODY));
    }
}

/// A ring that works: it has carried out an operation.
fn ring() -> Result<IoUring, Refused> {
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(RING_ENTRIES * 8)
        .build(RING_ENTRIES)
        .map_err(Refused::named("io_uring_setup"))?;
    // SAFETY: the entry has neither buffer nor descriptor.
    let queued = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
    queued.expect("the queue of a new ring has room");
    ring.submit_and_wait(1).map_err(Refused::named("io_uring_enter"))?;
    ring.completion().for_each(drop);
    Ok(ring)
}

/// So many rings at the same time.
pub(super) fn rings(count: usize) -> Result<Vec<IoUring>, Refused> {
    (0..count).map(|_| ring()).collect()
}

impl Drop for Driver {
    /// The kernel may not have sent all yet: what it sends from is never used again.
    fn drop(&mut self) {
        for slot in self.slots.take() {
            if let Slot::Send(sending) = slot {
                std::mem::forget(sending);
            }
        }
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

/// An operation under way. Dropping it does not end it, unless it is cancelled then: its buffer stays owned by the driver.
pub(super) struct FileOp {
    driver: Rc<Driver>,
    key: Option<u32>,
    cancels: bool,
}

impl FileOp {
    /// What it waits for may never come: the kernel is to give it up once nobody waits.
    pub(super) fn cancelled_when_dropped(mut self) -> Self {
        self.cancels = true;
        self
    }
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
        } else if self.cancels {
            self.driver.cancel(key);
        }
    }
}
