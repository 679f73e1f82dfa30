//! What a shard counts and holds, gathered from its parts.

use super::Shard;
use super::metrics::{Gauges, JournalSnapshot, MetricsSnapshot};
use crate::log::ShardLog;
use crate::rt::BudgetFigures;

impl Shard {
    pub(super) fn measure(&self) -> MetricsSnapshot {
        let mut snapshot = self.metrics.snapshot();
        let store = self.store();
        snapshot.journal = journal(store);
        snapshot.read_from_disk_bytes = store.disk_reads();
        snapshot.bypass_bytes = store.bypass_bytes();
        let (disk_full_refusals, disk_free_bytes) = store.space().figures();
        snapshot.gauges = Gauges {
            partitions: self.partitions.len() as u64,
            tail_bytes: store.tail_bytes() as u64,
            cache_bytes: store.cache_bytes() as u64,
            memory: self.memory_figures(),
            open_segments: store.resources().files().count() as u64,
            out_of_files: store.resources().files().ran_out(),
            disk_free_bytes,
            disk_full_refusals,
            scrub: store.scrub_stats(),
            damaged: store.damaged().len() as u64,
            unrepaired: store.unrepaired() as u64,
            strays: self.strays as u64,
            coordinators: self.coordinators.counts(),
            ends: self.ends.len() as u64,
            coordinators_silent: self.coordinators_silent(),
            metadata_waits: None,
        };
        snapshot
    }

    fn memory_figures(&self) -> Vec<(&'static str, BudgetFigures)> {
        let resources = self.store().resources();
        let held = |used: usize, limit: usize| BudgetFigures {
            used: used as u64,
            limit: limit as u64,
            ..BudgetFigures::default()
        };
        let tail = self.share(self.settings.tail_bytes);
        vec![
            ("tail", held(resources.pinned_bytes(), tail)),
            ("cache", held(resources.cached_bytes() + resources.read_bytes(), resources.budget() - tail)),
            ("requests", self.memory.requests.figures()),
            ("answers", self.memory.answers.figures()),
            ("work", self.memory.work.figures()),
            ("reads", resources.reading().figures()),
        ]
    }
}

fn journal(store: &ShardLog) -> JournalSnapshot {
    let journal = store.journal();
    let stats = journal.stats();
    JournalSnapshot {
        commits: stats.commits,
        bytes: stats.bytes,
        commit_us_sum: (stats.commit_us.mean() * stats.commit_us.len() as f64) as u64,
        commit_us: Some(stats.commit_us),
        commit_bytes: Some(stats.commit_bytes),
        files: (stats.files_used + stats.files_free) as u64,
        backlog_bytes: journal.backlog_bytes() as u64,
        failed: journal.failed().map(|reason| reason.to_string()),
        waits: journal.held_up(),
    }
}
