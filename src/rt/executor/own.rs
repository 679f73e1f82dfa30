//! The tasks of one thread: a queue of those that are ready, first in, first out.
//!
//! A task is polled on the thread that spawned it, and nowhere else; there is no preemption. A waker may be used from
//! any thread: on another one it leaves the task in the inbox of its own thread, and rings.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use async_task::Runnable;

use crate::rt::doorbell::Doorbell;
use crate::rt::refused::Refused;

thread_local! {
    static READY: RefCell<VecDeque<Runnable>> = const { RefCell::new(VecDeque::new()) };
    static HOME: RefCell<Option<Arc<Inbox>>> = const { RefCell::new(None) };
    /// Where `HOME` points to, for a comparison without a count.
    static HERE: Cell<*const Inbox> = const { Cell::new(ptr::null()) };
}

/// What other threads have woken of this thread's tasks.
struct Inbox {
    doorbell: Arc<Doorbell>,
    woken: Mutex<Vec<Runnable>>,
    filled: AtomicBool,
}

impl Inbox {
    fn schedule(self: &Arc<Self>, task: Runnable) {
        if ptr::eq(HERE.get(), Arc::as_ptr(self)) {
            return READY.with_borrow_mut(|ready| ready.push_back(task));
        }
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        self.filled.store(true, Ordering::Release);
        self.doorbell.ring();
    }
}

/// A task on this thread. Dropping the handle lets the task run on.
pub struct Task<T>(Option<async_task::Task<T>>);

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(self.0.as_mut().expect("there until it is dropped")).poll(cx)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

/// Starts a task: its first turn is now, before this returns.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    let home = HOME.with_borrow(Option::clone).expect("rt is used outside of its runtime");
    // SAFETY: `schedule` may be called and dropped on any thread and hands the task back to this one, the only one
    // that runs it; what this thread leaves behind at its end is leaked, not dropped elsewhere.
    let (runnable, task) = unsafe { async_task::spawn_unchecked(future, move |task| home.schedule(task)) };
    runnable.run();
    Task(Some(task))
}

/// Lets every other ready task have its turn first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A thread on which tasks can be spawned.
pub struct Executor(());

impl Executor {
    pub fn new(doorbell: &Arc<Doorbell>) -> Result<Self, Refused> {
        let inbox =
            Inbox { doorbell: doorbell.clone(), woken: Mutex::default(), filled: AtomicBool::new(false) };
        let inbox = Arc::new(inbox);
        HERE.set(Arc::as_ptr(&inbox));
        HOME.set(Some(inbox));
        Ok(Self(()))
    }

    /// Polls the event loop, which never waits for a waker: it sleeps by itself.
    pub fn run<T>(self, event_loop: impl Future<Output = T>) -> T {
        let mut event_loop = std::pin::pin!(event_loop);
        loop {
            if let Poll::Ready(out) = event_loop.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return out;
            }
        }
    }
}

impl Drop for Executor {
    /// Drops the tasks that are ready. Those that wait are leaked, with whoever would wake them.
    fn drop(&mut self) {
        while let Some(task) = READY.with_borrow_mut(VecDeque::pop_front) {
            drop(task);
        }
        HERE.set(ptr::null());
        HOME.set(None);
    }
}

pub fn is_idle() -> bool {
    READY.with_borrow(VecDeque::is_empty)
}

pub async fn turn() {
    for _ in 0..READY.with_borrow(VecDeque::len) {
        let Some(task) = READY.with_borrow_mut(VecDeque::pop_front) else { return };
        task.run();
    }
}

/// Takes in what other threads have woken; returns how many tasks that were.
pub fn collect() -> usize {
    HOME.with_borrow(|home| {
        let Some(home) = home else { return 0 };
        if !home.filled.load(Ordering::Relaxed) || !home.filled.swap(false, Ordering::AcqRel) {
            return 0;
        }
        let woken = std::mem::take(&mut *home.woken.lock().unwrap_or_else(PoisonError::into_inner));
        READY.with_borrow_mut(|ready| {
            let count = woken.len();
            ready.extend(woken);
            count
        })
    })
}
