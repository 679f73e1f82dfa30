//! The shard's timers: a heap of deadlines that the pump consults before it sleeps.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

thread_local! {
    static TIMERS: Rc<Timers> = Rc::default();
}

#[derive(Default)]
pub(super) struct Timers {
    heap: RefCell<BinaryHeap<Reverse<(Instant, u64)>>>,
    wakers: RefCell<HashMap<u64, Waker>>,
    next: RefCell<u64>,
}

impl Timers {
    pub(super) fn current() -> Rc<Self> {
        TIMERS.with(Rc::clone)
    }

    /// Wakes what is due; returns how many, and the time until the next.
    pub(super) fn fire(&self) -> (usize, Option<Duration>) {
        if self.heap.borrow().is_empty() {
            return (0, None);
        }
        let now = Instant::now();
        let mut fired = 0;
        loop {
            let Some(Reverse((at, id))) = self.heap.borrow().peek().copied() else { return (fired, None) };
            let cancelled = !self.wakers.borrow().contains_key(&id);
            if at > now && !cancelled {
                return (fired, Some(at - now));
            }
            self.heap.borrow_mut().pop();
            if let Some(waker) = self.wakers.borrow_mut().remove(&id) {
                waker.wake();
                fired += 1;
            }
        }
    }
}

/// Completes once `delay` has passed; costs nothing when dropped earlier.
pub fn sleep(delay: Duration) -> Sleep {
    Sleep { at: Instant::now() + delay, id: None }
}

pub struct Sleep {
    at: Instant,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        let timers = Timers::current();
        let at = self.at;
        let id = *self.id.get_or_insert_with(|| {
            let mut next = timers.next.borrow_mut();
            *next += 1;
            timers.heap.borrow_mut().push(Reverse((at, *next)));
            *next
        });
        timers.wakers.borrow_mut().insert(id, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            Timers::current().wakers.borrow_mut().remove(&id);
        }
    }
}
