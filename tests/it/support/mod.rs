//! What every integration test stands on: a real broker process, a raw protocol client, record batches.
//!
//! Most tests share one broker (`shared()`) and keep apart by topic name. `WEIR_TEST_BROKER=host:port` points
//! the shared tests at any other broker, such as Apache Kafka, which is how their expectations were proven;
//! tests that need a process of their own then skip.

pub mod batch;
pub mod broker;
pub mod calls;
pub mod cgroup;
pub mod cluster;
pub mod disk;
pub mod files;
pub mod ledger;
pub mod retrying;
pub mod sandbox;
pub mod wire;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use broker::{Broker, Options, shared};
pub use wire::Wire;

/// Builds a generated message: they are `#[non_exhaustive]`, so a literal will not do.
macro_rules! msg {
    ($ty:path { $($field:ident : $value:expr),* $(,)? }) => {{
        #[allow(unused_mut)]
        let mut message = <$ty>::default();
        $(message.$field = $value;)*
        message
    }};
}
pub(crate) use msg;

/// A topic name that no other test of this run, or of an earlier run on the same broker, uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Polls until `condition` holds; panics naming `what` when it does not within `limit`.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A small generator of repeatable randomness (splitmix64). Tests print its seed when they fail.
pub struct Rng(pub u64);

impl Rng {
    /// `WEIR_SEED` when it is set, else the clock: a failure names the seed, and the seed repeats the run.
    pub fn from_env() -> Rng {
        let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |d| d.as_nanos() as u64);
        Rng(std::env::var("WEIR_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(clock))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
