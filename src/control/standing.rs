//! What this broker knows of its own standing in the cluster.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use tokio::sync::Notify;

/// What is known of this broker's standing.
pub(super) struct Standing {
    /// When the last heartbeat that was answered was sent.
    pub heard: Cell<Instant>,
    pub fenced: Cell<bool>,
    pub wants_shutdown: Cell<bool>,
    pub may_stop: Cell<bool>,
    /// A heartbeat is to be sent now.
    pub hurry: Notify,
    /// The standing changed.
    pub changed: Notify,
    /// Why others of this cluster have nothing to do with this broker.
    pub shut_out: RefCell<Option<String>>,
    /// When each shard last answered a ping.
    pub turned: RefCell<Vec<Instant>>,
}

impl Standing {
    pub fn new(shards: usize) -> Self {
        let now = Instant::now();
        Self {
            heard: Cell::new(now),
            fenced: Cell::new(true),
            wants_shutdown: Cell::new(false),
            may_stop: Cell::new(false),
            hurry: Notify::new(),
            changed: Notify::new(),
            shut_out: RefCell::default(),
            turned: RefCell::new(vec![now; shards]),
        }
    }
}
