//! Calls that block, or compute for long: a thread of the shard's own runs those of a kind, in order.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Poll, Waker};

use flume::{Receiver, Sender, TryRecvError};

use super::doorbell::Doorbell;

type Call = Box<dyn FnOnce() + Send>;

pub(super) struct Thread {
    calls: Sender<(u64, Call)>,
    /// The numbers of the calls that have ended.
    ended: Receiver<u64>,
}

pub(super) struct Helper {
    name: &'static str,
    doorbell: Arc<Doorbell>,
    /// A shard's is made at its start; of tests and tools, many never need one.
    thread: OnceCell<Thread>,
    calls: Cell<u64>,
    running: Cell<usize>,
    waiting: RefCell<HashMap<u64, Waker>>,
}

impl Helper {
    pub(super) fn new(name: &'static str, doorbell: Arc<Doorbell>) -> Self {
        let (calls, running) = (Cell::new(0), Cell::new(0));
        Self { name, doorbell, thread: OnceCell::new(), calls, running, waiting: RefCell::default() }
    }

    pub(super) async fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = flume::bounded(1);
        let number = self.calls.replace(self.calls.get() + 1);
        self.running.set(self.running.get() + 1);
        let call: Call = Box::new(move || drop(done.send(f())));
        match self.start() {
            Ok(thread) => {
                thread.calls.send((number, call)).expect("the helper thread runs as long as its shard")
            }
            // Slower for everybody, but done.
            Err(_) => {
                call();
                self.running.set(self.running.get() - 1);
            }
        }
        std::future::poll_fn(|cx| match result.try_recv() {
            Ok(out) => Poll::Ready(out),
            Err(TryRecvError::Empty) => {
                self.waiting.borrow_mut().insert(number, cx.waker().clone());
                Poll::Pending
            }
            Err(TryRecvError::Disconnected) => panic!("a blocking call panicked"),
        })
        .await
    }

    /// Makes the thread, unless it is there.
    pub(super) fn start(&self) -> io::Result<&Thread> {
        if self.thread.get().is_none() {
            let thread = start(self.name, self.doorbell.clone())?;
            return Ok(self.thread.get_or_init(|| thread));
        }
        Ok(self.thread.get().expect("looked at above"))
    }

    /// Whether a call has not ended, or nobody has been told yet.
    pub(super) fn is_busy(&self) -> bool {
        self.running.get() > 0
    }

    /// Wakes who waits for calls that have ended; returns how many had.
    pub(super) fn collect(&self) -> usize {
        if !self.is_busy() {
            return 0;
        }
        let mut ended = 0;
        for number in self.thread.get().iter().flat_map(|thread| thread.ended.try_iter()) {
            self.running.set(self.running.get() - 1);
            if let Some(waker) = self.waiting.borrow_mut().remove(&number) {
                waker.wake();
            }
            ended += 1;
        }
        ended
    }
}

fn start(name: &str, doorbell: Arc<Doorbell>) -> io::Result<Thread> {
    let (calls, queue) = flume::unbounded::<(u64, Call)>();
    let (tell, ended) = flume::unbounded();
    let run = move || {
        unpin();
        for (number, call) in queue {
            // Whoever waits for it panics instead.
            let _ = catch_unwind(AssertUnwindSafe(call));
            if tell.send(number).is_err() {
                return;
            }
            doorbell.ring();
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(Thread { calls, ended })
}

/// A thread inherits the core that its shard is pinned to: let it run wherever the process may.
fn unpin() {
    let Some(cores) = process_cores() else { return };
    // SAFETY: a plain system call that reads no more than the set's size.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &cores) };
}

/// The cores that the process may use: those of its main thread, which is never pinned.
pub(super) fn process_cores() -> Option<libc::cpu_set_t> {
    // SAFETY: a zeroed cpu_set_t is valid, and the call writes no more than its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(libc::getpid(), size_of::<libc::cpu_set_t>(), &mut set) == 0).then_some(set)
    }
}
