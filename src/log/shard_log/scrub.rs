//! The scrubber: reads cold segments back at a bounded rate, so that damage is found before somebody needs the data, and
//! keeps the marks of what is damaged.
//!
//! A damaged range is known by its file, place and offsets. It is in the next checkpoint and in every one after, until
//! the log starts behind it, or compaction or a repair replaces the file. Its readers get an error; everything else is served.

use std::rc::Rc;
use std::time::Duration;

use crate::log::resources::damage::DamagedRange;
use crate::log::{LogError, PartitionLog};
use crate::model::PartitionId;
use crate::rt;

use super::ShardLog;
use super::held::Held;

/// The longest rest between two looks at whether the shard is closing.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// What the scrubber has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubStats {
    pub bytes: u64,
    pub extents: u64,
    /// Extents that did not read back as they were written.
    pub damaged: u64,
    /// Times that everything was read.
    pub passes: u64,
}

impl ScrubStats {
    fn add(&mut self, bytes: u64, extents: u64, damaged: u64) {
        self.bytes += bytes;
        self.extents += extents;
        self.damaged += damaged;
    }
}

impl ShardLog {
    pub fn scrub_stats(&self) -> ScrubStats {
        *self.scrub.borrow()
    }

    /// Partitions with damaged records, and what is damaged.
    pub fn damaged(&self) -> Vec<(PartitionId, Vec<DamagedRange>)> {
        let mut found = Vec::new();
        self.partitions.each(|id, held| found.push((id, held.damaged())));
        found.retain(|(_, ranges)| !ranges.is_empty());
        found
    }

    /// Takes the marks off the partitions that could be opened: somebody has looked at them and mended what there is.
    pub(in crate::log) fn clear_marks(&self) {
        // What readers have found up to now is mended, too.
        drop(self.resources.damage().take());
        self.partitions.change_each(|held| {
            if !held.is_frozen() {
                held.clear_marks();
            }
        });
        self.progress.touch();
    }

    /// Whether the partition's log could not be opened.
    pub(in crate::log) fn is_frozen(&self, id: PartitionId) -> bool {
        self.partitions.with(id, Held::is_frozen).unwrap_or(false)
    }

    /// How many partitions must not lead.
    pub fn unrepaired(&self) -> usize {
        self.partitions.logs(|held| held.repair().is_some()).len()
    }

    /// Takes what readers and the scrubber found into the partitions' marks.
    pub(super) fn note_damage(&self) {
        for id in self.partitions.changed() {
            if self.partitions.with(id, Held::forget_replaced) == Some(true) {
                self.progress.touch();
            }
        }
        for (dir, range) in self.resources.damage().take() {
            let mut is_new = false;
            self.partitions.each(|_, held| is_new |= held.log().dir() == &*dir && held.note_damaged(range));
            if !is_new {
                continue;
            }
            self.progress.touch();
            log::error!(
                "{}: {} bytes at {} of segment {:020} are damaged: offsets {}..{} cannot be read",
                dir.display(),
                range.length,
                range.position,
                range.segment,
                range.from,
                range.until
            );
        }
    }

    pub(super) fn start_scrubbing(self: &Rc<Self>) {
        if self.settings.scrub_rate == 0 {
            return;
        }
        let store = Rc::downgrade(self);
        let interval = self.settings.scrub_interval;
        rt::spawn(async move {
            loop {
                let began = rt::now();
                while began.elapsed() < interval {
                    rt::sleep(interval.saturating_sub(began.elapsed()).min(LONGEST_REST)).await;
                    if store.upgrade().is_none_or(|store| store.upkeep.is_closing()) {
                        return;
                    }
                }
                let Some(store) = store.upgrade() else { return };
                store.scrub_all().await;
            }
        });
    }

    /// Reads every sealed segment once.
    pub async fn scrub_all(&self) {
        for id in self.partitions.ids() {
            let Some(log) = self.get(id) else { continue };
            if let Err(e) = self.scrub_log(&log).await
                && !matches!(e, LogError::Removed)
            {
                log::warn!("{id}: not scrubbed to its end: {e}");
            }
            if self.upkeep.is_closing() {
                return;
            }
        }
        self.scrub.borrow_mut().passes += 1;
    }

    async fn scrub_log(&self, log: &PartitionLog) -> Result<(), LogError> {
        for segment in log.sealed_segments() {
            let mut next = Some(0);
            while let Some(extent) = next
                && !self.upkeep.is_closing()
            {
                let found = match segment.scrub(extent).await {
                    Err(LogError::Removed) => break,
                    found => found?,
                };
                next = found.next;
                self.scrub.borrow_mut().add(found.bytes, found.extents, found.damaged);
                self.rest(found.bytes).await;
            }
            self.note_damage();
        }
        Ok(())
    }

    /// So long that the rate is kept; zero is no bound, for who calls a pass directly.
    async fn rest(&self, bytes: u64) {
        match self.settings.scrub_rate {
            0 => rt::yield_now().await,
            rate => rt::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await,
        }
    }
}
