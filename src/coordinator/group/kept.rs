//! The offsets of one group: committed ones, and those of transactions that are still open.
//!
//! Of two commits for a partition the one that lies later in the log counts. A commit of a transaction takes its
//! place among the others only when the transaction commits, and may find that it was overtaken.

use std::collections::BTreeMap;

use super::codec::StoredOffset;
use super::types::Name;
use crate::model::ProducerId;

type ByPartition = BTreeMap<i32, StoredOffset>;
type ByTopic = BTreeMap<Name, ByPartition>;

#[derive(Clone, Debug, Default)]
pub struct Offsets {
    pub(super) committed: ByTopic,
    /// Of open transactions, by producer id.
    pending: BTreeMap<ProducerId, ByTopic>,
}

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&StoredOffset> {
        self.committed.get(topic)?.get(&partition)
    }

    /// Whether an open transaction commits an offset of this partition.
    pub fn is_pending(&self, topic: &str, partition: i32) -> bool {
        self.pending.values().any(|topics| topics.get(topic).is_some_and(|p| p.contains_key(&partition)))
    }

    pub fn commit(&mut self, topic: &Name, partition: i32, offset: StoredOffset) {
        self.committed.entry(topic.clone()).or_default().insert(partition, offset);
    }

    /// An offset that counts once the producer's transaction commits.
    pub fn commit_pending(
        &mut self,
        producer: ProducerId,
        topic: &Name,
        partition: i32,
        offset: StoredOffset,
    ) {
        let topics = self.pending.entry(producer).or_default();
        topics.entry(topic.clone()).or_default().insert(partition, offset);
    }

    /// Ends a producer's transaction.
    pub fn end_transaction(&mut self, producer: ProducerId, committed: bool) {
        let Some(topics) = self.pending.remove(&producer) else { return };
        if !committed {
            return;
        }
        for (topic, partitions) in topics {
            for (partition, offset) in partitions {
                let overtaken = self.get(&topic, partition);
                if overtaken.is_none_or(|known| known.record_offset < offset.record_offset) {
                    self.commit(&topic, partition, offset);
                }
            }
        }
    }

    /// Forgets a partition's offset, also where a transaction would commit it.
    pub fn remove(&mut self, topic: &str, partition: i32) {
        take_out(&mut self.committed, topic, partition);
        self.pending.retain(|_, topics| {
            take_out(topics, topic, partition);
            !topics.is_empty()
        });
    }

    pub(super) fn remove_committed(&mut self, topic: &str, partition: i32) {
        take_out(&mut self.committed, topic, partition);
    }

    pub fn producers(&self) -> impl Iterator<Item = ProducerId> + '_ {
        self.pending.keys().copied()
    }

    /// Every partition that has an offset, committed or pending.
    pub(super) fn partitions(&self) -> Vec<(Name, i32)> {
        let all = std::iter::once(&self.committed).chain(self.pending.values());
        let each = |topics: &ByTopic| -> Vec<(Name, i32)> {
            let one = |(topic, partitions): (&Name, &ByPartition)| {
                partitions.keys().map(|partition| (topic.clone(), *partition)).collect::<Vec<_>>()
            };
            topics.iter().flat_map(one).collect()
        };
        let mut partitions: Vec<_> = all.flat_map(each).collect();
        partitions.sort();
        partitions.dedup();
        partitions
    }
}

fn take_out(topics: &mut ByTopic, topic: &str, partition: i32) {
    if let Some(partitions) = topics.get_mut(topic) {
        partitions.remove(&partition);
        if partitions.is_empty() {
            topics.remove(topic);
        }
    }
}
