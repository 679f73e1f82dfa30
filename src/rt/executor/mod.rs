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
//! All tasks are in one queue, also those of compaction, scrubbing and retention, which do their work on helper threads and are on
//! the shard for short turns only: a request waits for one of them at most. glommio's own means were tried and not kept: a
//! second task queue with shares for compaction and scrubbing, which the event loop leaves its queue for once a turn, and which
//! gives the thread back after one turn of one task (glommio changes queues at its preemption timer, which would hold requests
//! up for as long as it runs). Acknowledgements in milliseconds, p50, p99 and p99.9, medians of six rounds of 5 s in
//! turns, a release build on one shard at 20,000 and 60,000 records a second into a compacted topic, 10–40 MB/s compacted and some 50 MB/s
//! scrubbed meanwhile (the machine's two cores were busy with other programs, which is what p99 shows):
//!
//! ```text
//!   no background work               10.5   44.8   54.3
//!   one queue                         7.9   32.8   43.0
//!   a queue with 100 of 1,100 shares  6.3   32.6   42.9
//!   a queue with 10 of 1,010 shares   4.8   33.4   48.1
//! ```
//! None can be told from another: rounds of each have p99 from 8–26 to 43–68 ms. What tasks wait and how long turns are, the feature
//! `task-times` shows: at p99 140–200 us and 150–250 us with background work, 180–200 and 220–810 us without.
//!
//! The queue of our own beside glommio's, in turns in the same way (30,000 records a second, four rounds): acknowledgements p50
//! 12.7 (11.5–16.7) against 15.6 ms (12.0–18.1), with background work 13.1 (12.9–13.5) against 14.2 (13.6–16.9); p99 58 (50–62)
//! against 59 (51–72), and 50 (44–57) against 59 (48–80); with 32 connections × 1 in two rounds 17 and 23 us CPU a request against 23
//! and 24. The two cannot be told apart. glommio ships, as others have tried it for longer, until a quiet machine tells them apart.

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
