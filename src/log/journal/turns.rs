//! Files are read whole when a journal is replayed, and all shards replay at once: here they take turns where that would be
//! too much.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::rt;

/// Bytes of files that the process's shards replay now.
static REPLAYED: AtomicUsize = AtomicUsize::new(0);

/// How often who waits looks again; only a start waits.
const LOOK: Duration = Duration::from_millis(2);

/// The memory of one file; others' when dropped.
pub(super) struct ReplayTurn(usize);

impl ReplayTurn {
    /// Waits until all that is replayed fits into `limit`, or nothing else is.
    pub async fn take(bytes: usize, limit: usize) -> Self {
        loop {
            let fits = |now: usize| (now == 0 || now + bytes <= limit).then_some(now + bytes);
            if REPLAYED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok() {
                return Self(bytes);
            }
            rt::sleep(LOOK).await;
        }
    }
}

impl Drop for ReplayTurn {
    fn drop(&mut self) {
        REPLAYED.fetch_sub(self.0, Ordering::Relaxed);
    }
}
