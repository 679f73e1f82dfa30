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
