//! Where brokers have a part in partitions, so that what happens to a broker costs what it touches.

use std::collections::{BTreeMap, BTreeSet};

use crate::metadata::{Delta, Image, Partition};
use crate::model::{BrokerId, MonoMs, PartitionId};

/// Of one image; [`Self::follow`] goes on to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Partitions that a broker is in sync with or eligible to lead.
    counts: BTreeMap<BrokerId, BTreeSet<PartitionId>>,
    leaderless: BTreeSet<PartitionId>,
    moving: BTreeSet<PartitionId>,
    /// Partitions that another than the preferred replica leads, which is in sync, and since when.
    displaced: BTreeMap<PartitionId, MonoMs>,
    /// How many partitions a broker holds, and of how many it is the preferred leader.
    held: BTreeMap<BrokerId, Held>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub replicas: usize,
    pub preferred: usize,
}

impl Index {
    pub fn of(image: &Image, now: MonoMs) -> Self {
        let mut index = Self::default();
        for topic in image.topics() {
            let all = topic.partition_ids().zip(topic.partitions.iter());
            all.for_each(|(id, partition)| index.add(id, partition, now));
        }
        index
    }

    /// Goes on from one image to a later one by what changed between them.
    pub fn follow(&mut self, old: &Image, new: &Image, delta: &Delta, now: MonoMs) {
        for topic in delta.deleted.values() {
            // As it was when it went; what it was before is what the index has.
            for id in topic.partition_ids() {
                if let Some(partition) = old.partition(id) {
                    self.remove(id, partition);
                }
                self.displaced.remove(&id);
            }
        }
        for id in &delta.partitions {
            if let Some(partition) = old.partition(*id).filter(|_| !delta.deleted.contains_key(&id.topic)) {
                self.remove(*id, partition);
            }
            match new.partition(*id) {
                Some(partition) => self.add(*id, partition, now),
                None => _ = self.displaced.remove(id),
            }
        }
    }

    fn add(&mut self, id: PartitionId, partition: &Partition, now: MonoMs) {
        for broker in partition.isr().chain(partition.elr()) {
            self.counts.entry(broker).or_default().insert(id);
        }
        if partition.leader.is_none() {
            self.leaderless.insert(id);
        }
        if partition.is_moving() {
            self.moving.insert(id);
        }
        match is_displaced(partition) {
            true => _ = self.displaced.entry(id).or_insert(now),
            false => _ = self.displaced.remove(&id),
        }
        for (at, broker) in partition.replicas().iter().enumerate() {
            let held = self.held.entry(*broker).or_default();
            held.replicas += 1;
            held.preferred += usize::from(at == 0);
        }
    }

    /// Of a partition that stays or comes back, it is remembered since when it is displaced.
    fn remove(&mut self, id: PartitionId, partition: &Partition) {
        for broker in partition.isr().chain(partition.elr()) {
            if let Some(of) = self.counts.get_mut(&broker) {
                of.remove(&id);
                if of.is_empty() {
                    self.counts.remove(&broker);
                }
            }
        }
        self.leaderless.remove(&id);
        self.moving.remove(&id);
        for (at, broker) in partition.replicas().iter().enumerate() {
            if let Some(held) = self.held.get_mut(broker) {
                held.replicas -= 1;
                held.preferred -= usize::from(at == 0);
                if *held == Held::default() {
                    self.held.remove(broker);
                }
            }
        }
    }

    /// Partitions that a broker is in sync with or eligible to lead.
    pub fn counts(&self, broker: BrokerId) -> impl Iterator<Item = PartitionId> + '_ {
        self.counts.get(&broker).into_iter().flatten().copied()
    }

    pub fn leaderless(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.leaderless.iter().copied()
    }

    pub fn moving(&self) -> &BTreeSet<PartitionId> {
        &self.moving
    }

    /// With the time since when.
    pub fn displaced(&self) -> impl Iterator<Item = (PartitionId, MonoMs)> + '_ {
        self.displaced.iter().map(|(id, since)| (*id, *since))
    }

    pub fn held(&self, broker: BrokerId) -> Held {
        self.held.get(&broker).copied().unwrap_or_default()
    }

    /// The highest id that has a part in anything.
    pub fn highest(&self) -> Option<BrokerId> {
        self.held.keys().next_back().copied()
    }

    /// But for times.
    #[cfg(test)]
    pub fn same(&self, other: &Self) -> bool {
        let at = |index: &Self| index.displaced.keys().copied().collect::<Vec<_>>();
        (&self.counts, &self.leaderless, &self.moving, &self.held)
            == (&other.counts, &other.leaderless, &other.moving, &other.held)
            && at(self) == at(other)
    }
}

fn is_displaced(partition: &Partition) -> bool {
    let preferred = partition.replicas()[0];
    partition.leader.is_some_and(|leader| leader != preferred) && partition.isr().any(|id| id == preferred)
}
