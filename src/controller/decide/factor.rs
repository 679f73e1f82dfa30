//! More replicas for topics that have as many as the cluster has by default, once there are brokers for them.

use std::collections::BTreeMap;

use super::placement::takers;
use super::reassign::to;
use super::view::{Other, View};
use crate::controller::index::Index;
use crate::metadata::records::Record;
use crate::metadata::{Broker, Image, Partition};
use crate::model::{BrokerId, PartitionId};

/// Partitions that may be moved at once: copying is not to take the disks from clients.
pub const MAX_MOVING: usize = 64;

/// Adds replicas where fewer are than `default`, or than there are brokers.
pub fn raise(view: &View<'_>, default: usize) -> Vec<Record> {
    let takers = takers(view.image);
    let target = default.min(takers.len());
    let mut room = MAX_MOVING.saturating_sub(view.index.moving().len());
    let mut given: BTreeMap<BrokerId, usize> = BTreeMap::new();
    let mut records = Vec::new();
    let topics = view.image.topics().filter(|topic| topic.factor_auto);
    for (id, partition) in topics.flat_map(|topic| topic.partition_ids().zip(topic.partitions.iter())) {
        if room == 0 {
            break;
        }
        // Who copies needs somebody to copy from.
        if partition.replicas().len() >= target || partition.is_moving() || partition.leader.is_none() {
            continue;
        }
        let Some(record) = more(view, id, partition, (target, &takers), &mut given) else { continue };
        records.push(record);
        room -= 1;
    }
    records
}

/// Who had best hold a partition besides those who do: of racks that have none of it, then who holds least.
pub fn another(
    image: &Image,
    index: &Index,
    replicas: &[BrokerId],
    takers: &[&Broker],
    given: &mut BTreeMap<BrokerId, usize>,
) -> Option<BrokerId> {
    let racks: Vec<_> = replicas.iter().filter_map(|id| image.broker(*id)?.rack.as_ref()).collect();
    let rank = |broker: &&&Broker| {
        let known = broker.rack.as_ref().is_some_and(|rack| racks.contains(&rack));
        let held = index.held(broker.id).replicas;
        (known, held + given.get(&broker.id).copied().unwrap_or(0), broker.id)
    };
    let new = takers.iter().filter(|broker| !replicas.contains(&broker.id)).min_by_key(rank)?.id;
    *given.entry(new).or_default() += 1;
    Some(new)
}

/// One partition gets more replicas: of racks that have none of it, then of brokers that hold least.
fn more(
    view: &View<'_>,
    id: PartitionId,
    partition: &Partition,
    (target, takers): (usize, &[&Broker]),
    given: &mut BTreeMap<BrokerId, usize>,
) -> Option<Record> {
    let mut replicas = partition.replicas().to_vec();
    while replicas.len() < target {
        replicas.push(another(view.image, view.index, &replicas, takers, given)?);
    }
    let change = to(view.change(id)?, &replicas, true).ok()?;
    view.record(change, &Other::default())
}
