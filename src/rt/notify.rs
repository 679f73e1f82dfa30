//! Waking the tasks of one shard that wait for something to change.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A broadcast without a value: everyone who listened before `notify_all` wakes, once.
#[derive(Clone, Default)]
pub struct Notify {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    epoch: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
}

impl Notify {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn notify_all(&self) {
        self.inner.epoch.set(self.inner.epoch.get() + 1);
        let mut waiters = std::mem::take(&mut *self.inner.waiters.borrow_mut());
        for waiter in waiters.drain(..) {
            waiter.wake();
        }
        // Keep the allocation, unless waking made new waiters.
        let mut slot = self.inner.waiters.borrow_mut();
        if slot.is_empty() {
            *slot = waiters;
        }
    }

    /// Resolves at the first `notify_all` after this call, also if that comes before the first poll.
    pub fn listen(&self) -> Listen {
        Listen { inner: self.inner.clone(), epoch: self.inner.epoch.get() }
    }

    pub async fn notified(&self) {
        self.listen().await;
    }

    /// Whether anyone waits.
    pub fn is_watched(&self) -> bool {
        !self.inner.waiters.borrow().is_empty()
    }
}

pub struct Listen {
    inner: Rc<Inner>,
    epoch: u64,
}

impl Future for Listen {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.epoch.get() != self.epoch {
            return Poll::Ready(());
        }
        let mut waiters = self.inner.waiters.borrow_mut();
        if !waiters.iter().rev().take(8).any(|w| w.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
