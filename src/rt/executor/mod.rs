//! The executor below the event loop: it keeps a thread's tasks and polls those that are ready. Nothing else of it is used;
//! timers, files, sockets, sleep and messages are the event loop's own, and so is the ring that it sleeps on.
//!
//! glommio is the executor that ships. With the feature `own-executor` a queue of our own stands in its place, so that
//! figures can compare the two. Either offers:
//!
//! - `Executor::new`, `Executor::run`: one a thread; `run` polls a future, the event loop, to its end.
//! - [`spawn`]: a task's first turn is at once, before this returns; then each in turn, first in, first out.
//! - `turn`: for the event loop: gives each task that is ready a turn.
//! - `is_idle`: whether that turn left nobody ready.
//! - [`yield_now`]: for a task: lets every other ready task have its turn first.
//!
//! All tasks are in one queue, also those of compaction, scrubbing and retention. glommio could keep the latter in a queue with
//! fewer shares, but it changes queues only at its preemption timer: the event loop, which is always ready, would keep
//! the thread until then, and so would a background queue, where today a request waits for one turn of one background
//! task. Nor is there anything to gain by the figures (release build, one shard, 60,000 records a second, waits of ready tasks):
//!
//! ```text
//!                                            p50     p99      p99.9     turns: p99    acknowledgement p99
//!   no background work                   7–18 us   181–202 us   1.1 ms   216–807 us         39–47 ms
//!   compaction at once, scrub 200 MiB/s      4 us   140–198 us   0.9–1.0 ms   154–247 us         42–45 ms
//! ```
//! on a machine of two cores that other programs kept busy: what is above a millisecond is theirs. The feature `task-times`
//! takes such figures.

#[cfg(not(feature = "own-executor"))]
mod glommio;
#[cfg(not(feature = "own-executor"))]
use glommio as chosen;

#[cfg(feature = "own-executor")]
mod own;
#[cfg(feature = "own-executor")]
use own as chosen;

#[cfg(feature = "task-times")]
mod times;

pub(super) use chosen::{Executor, collect, is_idle, turn};
pub use chosen::{Task, yield_now};
#[cfg(feature = "task-times")]
pub(super) use times::report;

/// Starts a task on this thread: its first turn is now, before this returns.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    #[cfg(feature = "task-times")]
    let future = times::timed(future);
    chosen::spawn(future)
}
