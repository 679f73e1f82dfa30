//! What one shard may hold of requests, of answers and of work on records: `request_memory`, divided.
//!
//! ```text
//! requests  1/2   frames as they arrive, and requests under way: over it, sockets are not read
//! answers   3/8   what is read for a Fetch, and responses until the kernel has them: short of it, answers are smaller or wait
//! work      1/8   records decompressed, coordinators' logs being loaded: short of it, the work waits
//! ```
//! A holder may wait for a budget further down, never for its own or one further up: nobody waits in a circle.

use std::cell::Cell;
use std::time::Duration;

use crate::rt::{self, Budget, Charge, First, Notify, race};

/// The least that an answer with records is worth, where its first batch is no larger.
pub const LEAST_ANSWER: usize = 64 << 10;
/// So long after one began to wait for memory, connections go that hold some and took nothing meanwhile.
pub const STALLED: Duration = Duration::from_secs(5);

/// See the module's page.
pub struct Memory {
    /// Bytes of frames received, in part or whole, until they are answered.
    pub requests: Budget,
    /// Bytes of responses, from before they are read until the kernel has taken them.
    pub answers: Budget,
    /// For whoever decompresses or recompresses records, or loads what it will throw away soon: take what is expected
    /// before, [`Charge::resize`] to what it came to, and hold it until the bytes are gone, also where they are on a
    /// helper thread. While it is held, nothing may be waited for but that work and the disk.
    pub work: Budget,
    /// One connection may finish a large frame over the budget: otherwise halves of frames could fill it for good.
    overdraft: Cell<bool>,
    stalled: Notify,
}

impl Memory {
    /// Of one shard's part of `request_memory`; `work` is the log's.
    pub fn new(bytes: usize, work: &Budget) -> Self {
        let part = |eighths| Budget::new(bytes / 8 * eighths);
        Self {
            requests: part(4),
            answers: part(3),
            work: work.clone(),
            overdraft: Cell::default(),
            stalled: Notify::new(),
        }
    }

    /// Waits for room for an answer of `least` to `most` bytes. Who waits long has the connections looked at that hold
    /// memory and take nothing.
    pub async fn answer(&self, least: usize, most: usize) -> Charge {
        if let Some(charge) = self.answers.try_take(least.min(most), most) {
            return charge;
        }
        let mut take = std::pin::pin!(self.answers.take(least, most));
        loop {
            match race(take.as_mut(), rt::sleep(STALLED)).await {
                First::A(charge) => return charge,
                First::B(()) => self.stalled.notify_all(),
            }
        }
    }

    /// Rings when answers have waited for [`STALLED`]: a connection that took nothing of its own for as long has to go.
    pub fn stalled(&self) -> &Notify {
        &self.stalled
    }

    /// Takes the one permission to go over the budget for requests; [`Self::end_overdraft`] gives it back.
    pub fn begin_overdraft(&self) -> bool {
        !self.overdraft.replace(true)
    }

    pub fn end_overdraft(&self) {
        self.overdraft.set(false);
        self.requests.freed().notify_all();
    }
}
