//! The runtime: the only importer of glommio, which runs the tasks ([`executor`]), and of io_uring.
//!
//! A shard is one pinned thread. Everything here is `!Send` unless it says otherwise; no borrow of shared state is
//! held across an `.await`. Time, tasks, files and sockets of a shard come from here and from nowhere else, so that
//! they can be observed, faulted and moved to another mechanism.

mod address;
mod aligned;
mod budget;
mod connect;
mod doorbell;
mod driver;
pub mod errors;
mod executor;
#[cfg(test)]
pub mod fault;
mod file;
pub mod fs;
mod helper;
pub mod mesh;
pub mod net;
mod notify;
pub mod oneshot;
mod race;
mod random;
mod readiness;
pub mod record;
mod refused;
mod runtime;
mod sending;
mod sendmsg;
pub mod stall;
mod ticks;
mod timer;
mod turnstile;
mod watch;
mod zerocopy;

#[cfg(test)]
mod tests;

pub use aligned::{AlignedBuf, BLOCK};
pub use budget::{Budget, BudgetFigures, Charge};
pub use connect::{connect, resolve};
pub use doorbell::Doorbell;
pub use executor::{Task, spawn, yield_now};
pub use file::{File, OpenOptions};
pub use notify::{Listen, Notify};
pub use race::{First, race};
pub use random::random;
pub use refused::Refused;
pub use runtime::{
    Shard, block_on, blocking, blocking_within, compute, now, on_mail, start, try_block_on, unix_ms, wall,
};
pub use ticks::Ticks;
pub use timer::{Sleep, sleep};
pub use turnstile::{Place, Turnstiles};

/// Whether the kernel gives this process `count` rings such as a shard's at the same time. Any thread.
pub fn rings_available(count: usize) -> Result<(), Refused> {
    driver::rings(count).map(drop)
}
