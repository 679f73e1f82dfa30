//! How many connections each shard of the broker has open: the only counters that threads share, read when a connection
//! is handed out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone)]
pub struct Connections(Arc<[AtomicUsize]>);

impl Connections {
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| AtomicUsize::new(0)).collect())
    }

    /// Of each shard, by its number.
    pub fn open(&self) -> impl Iterator<Item = usize> + Clone {
        self.0.iter().map(|open| open.load(Ordering::Relaxed))
    }

    /// Counts one more, before it is handed to the shard.
    pub fn begin_on(&self, shard: usize) {
        self.0[shard].fetch_add(1, Ordering::Relaxed);
    }

    pub fn end_on(&self, shard: usize) {
        self.0[shard].fetch_sub(1, Ordering::Relaxed);
    }
}
