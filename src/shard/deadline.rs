//! Until when requests are waited for. Nothing is timed by itself: while anything waits, one task sweeps ten times a
//! second and wakes what is due. A wait ends at the last sweep before its time is up.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

pub(super) use crate::partition::Due;
use crate::rt::{self, Notify};

const SWEEPS_A_SECOND: u32 = 10;
const SWEEP: Duration = Duration::from_millis(1000 / SWEEPS_A_SECOND as u64);
/// A commit takes some milliseconds: whoever gives less time than this is not told that it was too little.
const LEAST_SWEEPS: u64 = 2;

#[derive(Default)]
pub(super) struct Deadlines {
    swept: Cell<u64>,
    resting: Cell<bool>,
    roused: Notify,
    waiting: RefCell<BTreeMap<u64, (Due, Waker)>>,
    next: Cell<u64>,
}

impl Deadlines {
    pub(super) fn after(&self, time: Duration) -> Due {
        let whole = time.as_secs().saturating_mul(u64::from(SWEEPS_A_SECOND));
        let sweeps = whole.saturating_add(u64::from(time.subsec_millis() * SWEEPS_A_SECOND / 1000));
        Due(self.swept.get().saturating_add(sweeps.max(LEAST_SWEEPS)))
    }

    pub(super) fn is_over(&self, due: Due) -> bool {
        due.0 <= self.swept.get()
    }

    /// To be called by who begins to wait elsewhere than here.
    pub(super) fn rouse(&self) {
        if self.resting.get() {
            self.roused.notify_all();
        }
    }

    /// What comes of `work`; `None` if it is due before, and then it is dropped.
    pub(super) async fn by<T>(&self, due: Due, work: impl Future<Output = T>) -> Option<T> {
        let place = Place { deadlines: self, number: self.next.replace(self.next.get() + 1) };
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            if self.is_over(due) {
                return Poll::Ready(None);
            }
            self.waiting.borrow_mut().insert(place.number, (due, cx.waker().clone()));
            self.rouse();
            Poll::Pending
        })
        .await
    }

    /// Rests while `nobody` waits here or elsewhere, then sweeps; returns what tells who is due.
    pub(super) async fn sweep(&self, nobody: impl Fn() -> bool) -> impl Fn(Due) -> bool + Copy + '_ {
        let roused = self.roused.listen();
        if self.waiting.borrow().is_empty() && nobody() {
            self.resting.set(true);
            roused.await;
            self.resting.set(false);
        }
        rt::sleep(SWEEP).await;
        rt::stall::running("deadlines");
        self.end_due();
        |due| self.is_over(due)
    }

    fn end_due(&self) {
        self.swept.set(self.swept.get() + 1);
        for (due, waker) in self.waiting.borrow().values() {
            if self.is_over(*due) {
                waker.wake_by_ref();
            }
        }
    }
}

/// A wait's place; given up when dropped.
struct Place<'a> {
    deadlines: &'a Deadlines,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.deadlines.waiting.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_wait_ends_at_its_sweep_and_leaves_nothing_behind() {
        rt::block_on(async {
            let deadlines = Rc::new(Deadlines::default());
            assert_eq!(deadlines.by(Due(0), async { 7 }).await, Some(7), "what is done is done");
            let due = deadlines.after(Duration::from_millis(350));
            assert_eq!((due, deadlines.after(Duration::ZERO)), (Due(3), Due(2)));
            assert!(Due::NEVER > due && !deadlines.is_over(due));
            let waits = deadlines.clone();
            let task = rt::spawn(async move { waits.by(due, std::future::pending::<()>()).await });
            rt::yield_now().await;
            for _ in 0..3 {
                assert_eq!(deadlines.waiting.borrow().len(), 1);
                deadlines.end_due();
            }
            assert_eq!(task.await, None);
            assert!(deadlines.waiting.borrow().is_empty());
        });
    }
}
