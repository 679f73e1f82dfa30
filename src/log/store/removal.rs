//! Removing partitions, for good: a power cut must not bring a directory back under a name that another topic has by then.

use super::{ShardLog, topics_dir};
use crate::model::PartitionId;
use crate::rt;

impl ShardLog {
    /// As [`Self::removals_durable`], blocking.
    pub(super) fn sync_removals(&self) {
        let topics = topics_dir(&self.data_dir);
        if self.removals_unsynced.replace(false)
            && let Err(e) = rt::fs::sync_dir(&topics)
        {
            self.journal.poison(&topics, &e);
        }
    }

    /// The removals so far are durable when this returns: what was removed cannot come back after a power cut and be
    /// taken for a new partition of its name, on this shard or another.
    pub async fn removals_durable(&self) {
        if !self.removals_unsynced.replace(false) {
            return;
        }
        let topics = topics_dir(&self.data_dir);
        let path = topics.clone();
        if let Err(e) = rt::blocking(move || rt::fs::sync_dir(path)).await {
            self.journal.poison(&topics, &e);
        }
    }

    /// Deletes a partition's log with its directory; see [`Self::removals_durable`].
    pub async fn remove(&self, id: PartitionId) {
        let held = self.logs.borrow_mut().remove(&id);
        self.changed.set(true);
        self.removals_unsynced.set(true);
        if let Some(held) = held
            && let Err(e) = held.log.remove().await
        {
            log::warn!("removing {}-{}: {e}", held.topic, id.index);
        }
    }
}
