//! What others may have of a replica's log. Nobody outside of this module's layer holds the log itself: behind these few
//! methods, and those that append, read and compact, another store may stand beside the files of this disk.

use std::sync::Arc;

use bytes::Bytes;

use super::assignment::Role;
use super::{ReadError, Replica};
use crate::log::LogError;
use crate::model::Offset;

impl Replica {
    /// Why it serves nothing, if so: durable records of it are missing.
    pub fn needs_repair(&self) -> Option<Arc<str>> {
        self.log.needs_repair()
    }

    /// Bytes of batches, on disk and in memory.
    pub fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }

    /// Whole batches from the one that holds `from` on, as far as they are committed; none if nothing there is left.
    pub async fn read_committed(&self, from: Offset, max_bytes: usize) -> Result<Vec<Bytes>, LogError> {
        self.log.read(from, self.high_watermark(), max_bytes, true).await
    }

    /// Up to where retention may delete: what is committed, of a leader. A follower's log starts where its leader's does, and
    /// nothing else goes.
    pub fn may_go(&self) -> Offset {
        let offsets = self.offsets();
        match self.role() {
            Role::Leader => offsets.high_watermark(),
            Role::Follower | Role::Offline => offsets.log_start(),
        }
    }

    /// Moves the log's start up to `to`, or all that is committed, for a leader's client (KIP-107). Returns where the log
    /// starts and whether that is new; it is durable with the shard's next checkpoint.
    pub fn delete_records(&self, to: Option<Offset>) -> Result<(Offset, bool), ReadError> {
        if self.role() != Role::Leader {
            return Err(ReadError::NotLeader);
        }
        let before = self.offsets();
        let to = to.unwrap_or(before.high_watermark());
        if to > before.high_watermark() {
            return Err(ReadError::OffsetOutOfRange);
        }
        self.log.set_start_offset(to);
        let start = self.offsets().log_start();
        self.followed.mark();
        Ok((start, start > before.log_start()))
    }
}
