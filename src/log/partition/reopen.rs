//! What of a log its next start has to know, and a start that knows nothing.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::log::formats::PartitionCheckpoint;
use crate::log::segment::scan::Scanned;
use crate::log::{LogError, Resources};
use crate::model::PartitionId;
use crate::model::topic_config::TopicConfig;

use super::PartitionLog;
use super::recover::scan_all;

impl PartitionLog {
    /// What is synced, as the next start needs to know it.
    pub fn checkpoint(&self) -> PartitionCheckpoint {
        let durable = self.segment_durable_offset();
        let active = self.segments.active();
        let mut segments = self.segments.metas();
        segments.truncate(self.segments.sealed_count());
        let last = active.as_ref().map(|active| active.durable()).filter(|meta| meta.size > 0);
        segments.extend(last);
        let extents = active.filter(|_| last.is_some()).map(|active| active.durable_extents().to_vec());
        PartitionCheckpoint {
            segment_durable_offset: durable.0,
            start_offset: self.start_offset().0,
            epochs: self.epochs.borrow().clone(),
            segments,
            active: last.is_some(),
            extents: extents.unwrap_or_default(),
            clean: self.directory.is_in_order()
                && durable == self.end_offset()
                && self.compaction.is_settled(),
            was_reset: false,
        }
    }

    /// Opens a log of which nothing is known: also returns the batches that producers' state is made of.
    pub fn open_unknown(
        dir: PathBuf,
        id: PartitionId,
        config: Arc<TopicConfig>,
        resources: &Rc<Resources>,
    ) -> Result<(Rc<Self>, Vec<Scanned>), LogError> {
        let dir: Rc<Path> = dir.into();
        let mut found = scan_all(&dir, resources)?;
        let batches = std::mem::take(&mut found.batches);
        Ok((Self::found(dir, id, config, found, resources), batches))
    }
}
