//! How long things may take.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

/// A flush of the disk must take less than an election does: Raft awaits it.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    pub heartbeat: Duration,
    /// A voter that has not heard a leader for a time drawn from here, after the leader's lease, stands for election.
    pub election: (Duration, Duration),
}

impl Default for Timers {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { heartbeat: ms(100), election: (ms(400), ms(700)) }
    }
}

impl Timers {
    pub(super) fn config(&self) -> io::Result<Arc<Config>> {
        let ms = |time: Duration| time.as_millis() as u64;
        let config = Config {
            cluster_name: "metadata".into(),
            heartbeat_interval: ms(self.heartbeat),
            election_timeout_min: ms(self.election.0),
            election_timeout_max: ms(self.election.1),
            install_snapshot_timeout: 10_000,
            // When is said by the size of the log's file.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: 0,
            ..Config::default()
        };
        config.validate().map(Arc::new).map_err(io::Error::other)
    }
}
