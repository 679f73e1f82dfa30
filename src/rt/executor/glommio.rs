//! glommio's tasks.
//!
//! Used: `LocalExecutor`, `spawn_local`, `yield_now`, and one timer. Not used: its rings (parking on them costs a
//! `membarrier` and three ring enters a wake-up), its files and sockets (no vectored send, buffers that cannot leave their
//! thread), its channels, its placement (which wants `/sys`), preemption (tasks here are short).
//!
//! The event loop is one task among the others. glommio's queue is first in, first out: when the event loop's turn comes
//! again without another task's before it, no task is ready.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use io_uring::{IoUring, Probe};

use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, ReactorErrorKind};

use crate::rt::doorbell::Doorbell;
use crate::rt::refused::Refused;

/// Memory that glommio registers for its own rings: the least that it takes.
const IO_MEMORY: usize = 64 << 10;
/// How often glommio would look at its own rings, which have nothing: its timer would only end the event loop's sleep.
const NEVER: Duration = Duration::from_secs(1 << 30);
/// The longest that glommio parks all the same: it does so although tasks are ready when something that wakes none, such
/// as the end of its preemption timer, completes between its poll and its look at the tasks.
const PARK: Duration = Duration::from_millis(1);

thread_local! {
    /// Times that a task was polled.
    static POLLS: Cell<u64> = const { Cell::new(0) };
    /// The same as the event loop's last turn began.
    static BEFORE: Cell<u64> = const { Cell::new(0) };
    /// Times that glommio looked at its timers and found the one below due.
    static ROUSED: Cell<u64> = const { Cell::new(0) };
}

pub struct Executor(LocalExecutor);

impl Executor {
    pub fn new(_: &Arc<Doorbell>) -> Result<Self, Refused> {
        ask_for_probe()?;
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY)
            .ring_depth(64)
            .preempt_timer(NEVER)
            .make()
            .map_err(refused)?;
        Ok(Self(executor))
    }

    pub fn run<T>(self, event_loop: impl Future<Output = T>) -> T {
        self.0.run(async {
            let rousing = glommio::spawn_local(async {
                loop {
                    glommio::timer::Timer::new(PARK).await;
                    ROUSED.set(ROUSED.get() + 1);
                }
            });
            let out = event_loop.await;
            drop(rousing);
            out
        })
    }
}

/// Fails where the kernel does not tell what its rings can do: glommio would panic.
fn ask_for_probe() -> Result<(), Refused> {
    let ring = IoUring::new(1).map_err(Refused::named("io_uring_setup"))?;
    ring.submitter().register_probe(&mut Probe::new()).map_err(Refused::named("io_uring_register"))
}

/// What glommio could not make, by the name of the system call that makes it.
fn refused(error: GlommioError<()>) -> Refused {
    let error = match error {
        // Less than it thinks it needs; the kernel would say the same.
        GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(..)) => {
            io::Error::from_raw_os_error(libc::ENOMEM)
        }
        GlommioError::IoError(error) | GlommioError::EnhancedIoError { source: error, .. } => error,
        other => io::Error::other(other.to_string()),
    };
    Refused { what: "io_uring_setup", error }
}

/// A task on this thread. Dropping the handle lets the task run on.
pub struct Task<T>(glommio::task::JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|out| out.expect("a task is never cancelled"))
    }
}

pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    Task(glommio::spawn_local(counted(future)).detach())
}

/// Counts the polls of a task: glommio does not tell whether any is ready.
async fn counted<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        POLLS.set(POLLS.get().wrapping_add(1));
        future.as_mut().poll(cx)
    })
    .await
}

pub async fn yield_now() {
    glommio::executor().yield_now().await;
}

pub async fn turn() {
    BEFORE.set(POLLS.get());
    yield_now().await;
}

pub fn is_idle() -> bool {
    POLLS.get() == BEFORE.get()
}

/// No task is woken from another thread: it would not end the event loop's sleep. Threads send messages and ring.
pub fn collect() -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt;

    /// Its main loop has the thread only until the event loop has had its first turn: from then on the queue is never empty.
    /// So no ready task ever waits for [`PARK`].
    #[test]
    fn glommio_does_not_park_once_the_event_loop_runs() {
        rt::block_on(async {
            rt::sleep(5 * PARK).await;
            let before = ROUSED.get();
            for _ in 0..20 {
                let tasks: Vec<_> = (0..50).map(|_| rt::spawn(rt::yield_now())).collect();
                for task in tasks {
                    task.await;
                }
                rt::sleep(2 * PARK).await;
                rt::blocking(|| std::thread::sleep(2 * PARK)).await;
            }
            assert_eq!(ROUSED.get(), before);
        });
    }
}
