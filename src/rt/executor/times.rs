//! How long tasks that are ready wait for their turn, and how long a turn of theirs holds the shard: for measuring, with the
//! feature `task-times`, which gives each task a waker of its own around the executor's.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use hdrhistogram::Histogram;

use crate::rt::ticks::Ticks;

/// Nanoseconds above this are recorded as this.
const LONGEST_NS: u64 = 60_000_000_000;

thread_local! {
    static TIMES: RefCell<Times> = RefCell::new(Times::new());
}

struct Times {
    waits: Histogram<u64>,
    turns: Histogram<u64>,
}

impl Times {
    fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_NS, 2).expect("constant bounds are valid");
        Self { waits: histogram(), turns: histogram() }
    }
}

/// Since when the task is ready, and how the executor is told.
#[derive(Default)]
struct Ready {
    since: Mutex<Option<Ticks>>,
    task: OnceLock<Waker>,
}

impl Ready {
    fn take(&self) -> Option<Ticks> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Ticks::now);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

/// The same future, whose waits and turns are recorded.
pub(super) async fn timed<T>(future: impl Future<Output = T>) -> T {
    let ready = Arc::new(Ready::default());
    let waker = Waker::from(ready.clone());
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        // A task's waker stays the same.
        ready.task.get_or_init(|| cx.waker().clone());
        turn(future.as_mut(), &ready, &mut Context::from_waker(&waker))
    })
    .await
}

fn turn<T>(future: Pin<&mut impl Future<Output = T>>, ready: &Ready, cx: &mut Context<'_>) -> Poll<T> {
    let began = Ticks::now();
    let since = ready.take();
    let polled = future.poll(cx);
    let ended = Ticks::now();
    TIMES.with_borrow_mut(|times| {
        if let Some(since) = since {
            times.waits.saturating_record(began.since(since).max(1));
        }
        times.turns.saturating_record(ended.since(began).max(1));
    });
    polled
}

/// What this thread has recorded, in words.
pub fn report() -> String {
    TIMES.with_borrow(|times| {
        let line = |of: &Histogram<u64>| {
            let at = |q: f64| of.value_at_quantile(q) as f64 / 1000.0;
            format!(
                "{} times; mean {:.1} us, p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, p99.99 {:.1}, longest {:.1}",
                of.len(),
                of.mean() / 1000.0,
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                at(0.9999),
                of.max() as f64 / 1000.0
            )
        };
        format!("ready tasks waited {}; turns held the shard {}", line(&times.waits), line(&times.turns))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rt;

    #[test]
    fn a_task_waits_for_the_turns_of_others() {
        rt::block_on(async {
            let slow = rt::spawn(async {
                rt::yield_now().await;
                std::thread::sleep(Duration::from_millis(20));
            });
            let next = rt::spawn(rt::yield_now());
            slow.await;
            next.await;
            TIMES.with_borrow(|times| {
                let least = 19_000_000;
                assert!(times.waits.max() >= least && times.turns.max() >= least, "{}", report());
            });
        });
    }
}
