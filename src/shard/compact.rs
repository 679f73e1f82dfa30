//! Compaction of this shard's partitions, the dirtiest first, one at a time.
//!
//! ```text
//! candidates → checkpoint (lists their segments) → a pass each → checkpoint (lists the new ones) → again, if a map was full
//! ```

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use crate::log::LogError;
use crate::log::compact::{Candidate, Passed, Policy, Work};
use crate::partition::Replica;
use crate::rt::{self, race};

/// Partitions of one round: what lies between two checkpoints.
const MAX_ROUND: usize = 64;
/// Looking for what is worth compacting is work, too.
const LEAST_REST: Duration = Duration::from_millis(100);

impl Shard {
    pub(super) async fn compact(self: Rc<Self>) {
        while !self.is_stopping() {
            self.rest_between_compactions().await;
            while !self.is_stopping() && self.compact_round().await {}
        }
    }

    /// A change of how long to rest holds for the rest under way.
    async fn rest_between_compactions(&self) {
        let began = rt::now();
        loop {
            let changed = self.applied.live_changed();
            let every = Duration::from_millis(self.live().compaction_check_ms).max(LEAST_REST);
            let left = every.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            race(rt::sleep(left), changed).await;
        }
    }

    /// Whether there is more to do right away.
    async fn compact_round(&self) -> bool {
        let mut candidates = self.compaction_candidates().await;
        // What is written takes room before what it replaces gives any back.
        candidates.retain(|(replica, _)| {
            let needed = replica.config().segment_bytes.min(replica.size_bytes());
            self.store().space().fits(needed)
        });
        if candidates.is_empty() {
            return false;
        }
        if let Err(e) = self.partitions.checkpoint().await {
            log::warn!("shard {}: no compaction without a checkpoint: {e}", self.me.shard);
            return false;
        }
        let are_left = candidates.len() == MAX_ROUND;
        let (mut more, mut any) = (false, false);
        for (replica, candidate) in candidates {
            if self.is_stopping() {
                return false;
            }
            let passed = self.compact_one(&replica, candidate).await;
            any |= passed.is_some();
            more |= passed.is_some_and(|passed| passed.more);
        }
        match self.partitions.checkpoint().await {
            // Where nothing works, what is left waits, too.
            Ok(()) => more || (any && are_left),
            Err(e) => {
                log::warn!("shard {}: {e}; compaction waits for the next checkpoint", self.me.shard);
                false
            }
        }
    }

    async fn compaction_candidates(&self) -> Vec<(Rc<Replica>, Candidate)> {
        let mut found = Vec::new();
        for replica in self.partitions.select(|replica| replica.config().cleanup_policy.compact) {
            if let Err(e) = replica.write_what_rolls().await {
                log::warn!("{}-{}: {e}", replica.topic, replica.id.index);
            }
            let policy = Policy::from(&*replica.config());
            if let Some(candidate) = replica.compaction_candidate(&policy, rt::wall()).await {
                found.push((replica, candidate));
            }
            rt::yield_now().await;
        }
        found.sort_by(|(_, a), (_, b)| b.dirty_ratio.total_cmp(&a.dirty_ratio));
        found.truncate(MAX_ROUND);
        found
    }

    async fn compact_one(&self, replica: &Replica, candidate: Candidate) -> Option<Passed> {
        let policy = Policy::from(&*replica.config());
        let journal = self.store().journal();
        let work = Work {
            map_bytes: self.share(self.live().compaction_bytes),
            rate: &|| match self.live().compaction_rate {
                u64::MAX => u64::MAX,
                rate => (rate / self.me.count as u64).max(1),
            },
            activity: &|| journal.commits().wrapping_add(self.metrics.fetched_bytes()),
            stop: &|| self.is_stopping(),
        };
        let began = rt::now();
        match replica.compact(candidate, &policy, &work).await {
            Ok(passed) => {
                self.metrics.compaction.borrow_mut().add(&passed);
                log::info!(
                    "{}-{}: compacted up to offset {} in {} ms: {} of {} records stay, {} KiB read, {} KiB written",
                    replica.topic,
                    replica.id.index,
                    passed.end,
                    began.elapsed().as_millis(),
                    passed.records_kept,
                    passed.records_read,
                    passed.bytes_read >> 10,
                    passed.bytes_written >> 10,
                );
                Some(passed)
            }
            Err(e) => {
                self.metrics.compaction.borrow_mut().failures += 1;
                match e {
                    // Said where it was found.
                    LogError::Corrupt { .. } => {}
                    e => log::warn!("{}-{}: not compacted: {e}", replica.topic, replica.id.index),
                }
                None
            }
        }
    }
}
