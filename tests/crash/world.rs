//! What must be true of the disk at each moment of a recording: what was written, what was acknowledged, and when, as
//! numbers of events. Moment `t` is when the first `t` events had happened.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir::metadata::Image;
use weir::model::{PartitionId, TopicId};
use weir::wire::batch::BatchHeader;

pub const NEVER: usize = usize::MAX;

/// A batch that was given an offset.
#[derive(Clone, Debug)]
pub struct Entry {
    pub header: BatchHeader,
    /// As stamped: what is stored.
    pub bytes: Bytes,
    pub submitted: usize,
    pub acked: usize,
    /// A truncation takes it away, and may have: it need not be there any more.
    pub cut: usize,
    /// A recovery found it missing, or a truncation has taken it away: it must not come back.
    pub dropped: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Partition {
    pub entries: Vec<Entry>,
    /// Log starts as they were seen, rising.
    pub starts: Vec<(usize, i64)>,
    /// Log starts that were acknowledged.
    pub deleted: Vec<(usize, i64)>,
}

impl Partition {
    /// The least and the greatest log start that the moment allows.
    pub fn start_bounds(&self, t: usize) -> (i64, i64) {
        let low = self.deleted.iter().filter(|(at, _)| *at <= t).map(|(_, offset)| *offset).max();
        let high = self.starts.iter().find(|(at, _)| *at >= t).or(self.starts.last()).map(|(_, o)| *o);
        (low.unwrap_or(0), high.unwrap_or(0))
    }

    /// The batches that may be there, by base offset.
    pub fn allowed(&self, t: usize) -> BTreeMap<i64, &Entry> {
        let allowed = self.entries.iter().filter(|e| e.submitted <= t && t < e.dropped);
        allowed.map(|e| (e.header.base_offset, e)).collect()
    }

    /// Where the log must not end before.
    pub fn acked_end(&self, t: usize) -> i64 {
        self.entries
            .iter()
            .filter(|e| e.acked <= t && t < e.dropped && t < e.cut)
            .map(|e| e.header.next_offset())
            .max()
            .unwrap_or(0)
    }
}

/// The metadata that matters, comparable.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Metadata {
    pub cluster: String,
    pub topics: BTreeMap<String, (TopicId, usize, BTreeMap<String, String>)>,
    pub deleted: Vec<TopicId>,
    pub next_producer_id: i64,
}

impl Metadata {
    pub fn of(image: &Image, ever: &[TopicId]) -> Self {
        let topics = image.topics().map(|t| {
            let name = t.name.to_string();
            (name, (t.id, t.partitions.len(), (*t.overrides).clone()))
        });
        Self {
            cluster: image.cluster_id.to_string(),
            topics: topics.collect(),
            deleted: ever.iter().copied().filter(|id| image.was_deleted(*id)).collect(),
            next_producer_id: image.next_producer_id,
        }
    }
}

#[derive(Clone, Debug)]
pub struct MetadataState {
    pub begun: usize,
    pub done: usize,
    pub state: Metadata,
}

#[derive(Clone, Debug, Default)]
pub struct World {
    pub partitions: BTreeMap<PartitionId, Partition>,
    /// In order; the first is what the recording began with.
    pub metadata: Vec<MetadataState>,
    /// Every topic id there ever was.
    pub ever: Vec<TopicId>,
    pub next_producer: i64,
}

impl World {
    /// The states of the metadata that the moment allows; none are known before the first.
    pub fn metadata_at(&self, t: usize) -> Vec<&Metadata> {
        let last = self.metadata.iter().rposition(|s| s.done <= t).unwrap_or(0);
        self.metadata[last.min(self.metadata.len())..]
            .iter()
            .filter(|s| s.begun <= t)
            .map(|s| &s.state)
            .collect()
    }

    /// The world at the beginning of a recording that begins with the disk of moment `t`.
    pub fn at(&self, t: usize) -> Self {
        let moved = |at: usize| if at <= t { 0 } else { NEVER };
        let partition = |p: &Partition| Partition {
            entries: p
                .entries
                .iter()
                .filter(|e| e.submitted <= t && t < e.dropped)
                .map(|e| {
                    let acked = if e.cut <= t { NEVER } else { moved(e.acked) };
                    Entry { submitted: 0, acked, cut: NEVER, dropped: NEVER, ..e.clone() }
                })
                .collect(),
            starts: vec![(0, p.start_bounds(t).1)],
            deleted: vec![(0, p.start_bounds(t).0)],
        };
        let last = self.metadata.iter().rposition(|s| s.done <= t).unwrap_or(0);
        let states = self.metadata.iter().skip(last).filter(|s| s.begun <= t);
        Self {
            partitions: self.partitions.iter().map(|(id, p)| (*id, partition(p))).collect(),
            metadata: states
                .map(|s| MetadataState { begun: 0, done: moved(s.done), state: s.state.clone() })
                .collect(),
            ever: self.ever.clone(),
            next_producer: self.next_producer,
        }
    }
}
