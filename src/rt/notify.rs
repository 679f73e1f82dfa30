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
    waiters: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

impl Notify {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn notify_all(&self) {
        self.inner.epoch.set(self.inner.epoch.get() + 1);
        if self.inner.waiters.borrow().is_empty() {
            return;
        }
        let mut waiters = std::mem::take(&mut *self.inner.waiters.borrow_mut());
        self.inner.free.borrow_mut().clear();
        for waiter in waiters.drain(..).flatten() {
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
        Listen { inner: self.inner.clone(), epoch: self.inner.epoch.get(), key: None }
    }

    pub async fn notified(&self) {
        self.listen().await;
    }

    /// Whether anyone waits.
    pub fn is_watched(&self) -> bool {
        self.inner.waiters.borrow().len() > self.inner.free.borrow().len()
    }
}

/// One listener; it leaves nothing behind when dropped.
pub struct Listen {
    inner: Rc<Inner>,
    epoch: u64,
    key: Option<usize>,
}

impl Future for Listen {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.epoch.get() != self.epoch {
            return Poll::Ready(());
        }
        let inner = self.inner.clone();
        let mut waiters = inner.waiters.borrow_mut();
        let key = *self.key.get_or_insert_with(|| {
            inner.free.borrow_mut().pop().unwrap_or_else(|| {
                waiters.push(None);
                waiters.len() - 1
            })
        });
        match &mut waiters[key] {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            slot => *slot = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Listen {
    fn drop(&mut self) {
        // A notification has emptied the slots already.
        if let Some(key) = self.key
            && self.inner.epoch.get() == self.epoch
        {
            self.inner.waiters.borrow_mut()[key] = None;
            self.inner.free.borrow_mut().push(key);
        }
    }
}
