//! Who is in sync: what leaders ask for, with all of Kafka's refusals (`AlterPartition`).

use std::collections::BTreeSet;

use super::view::{Other, View};
use crate::controller::brokers::{IsrChange, IsrRefusal};
use crate::metadata::Partition;
use crate::metadata::records::Record;
use crate::model::{BrokerEpoch, BrokerId, PartitionId};

/// Whether a leader knows that a broker may be in sync with it, and by what rules it commits then.
pub type Knows<'a> = &'a dyn Fn(BrokerId) -> bool;

/// Each change succeeds or fails by itself.
///
/// A refusal for a broker that was fenced holds for every copy of the request, which may come late: by what its leader knew
/// then, the broker is not unfenced yet. A leader that was refused goes on without it: where an earlier copy was taken, it must
/// not hear that nothing came of it, but that its partition is another by now.
pub fn alter(
    view: &View<'_>,
    leader: BrokerId,
    knows: Knows<'_>,
    changes: &[IsrChange],
) -> (Vec<Record>, Vec<Result<PartitionId, IsrRefusal>>) {
    let mut records = Vec::new();
    let mut seen = BTreeSet::new();
    let results = changes.iter().map(|change| {
        // The second rests on what the first has changed.
        if !seen.insert(change.id) {
            return Err(IsrRefusal::InvalidUpdateVersion);
        }
        if let Some(record) = one(view, leader, knows, change)? {
            let elsewhere =
                matches!(&record, Record::PartitionChanged { leader: Some(new), .. } if *new != Some(leader));
            records.push(record);
            if elsewhere {
                return Err(IsrRefusal::NewLeaderElected);
            }
        }
        Ok(change.id)
    });
    let results = results.collect();
    (records, results)
}

fn one(
    view: &View<'_>,
    leader: BrokerId,
    knows: Knows<'_>,
    wanted: &IsrChange,
) -> Result<Option<Record>, IsrRefusal> {
    let topic = view.image.topic_by_id(wanted.id.topic).ok_or(IsrRefusal::UnknownTopicId)?;
    let partition = topic.partition(wanted.id.index).ok_or(IsrRefusal::UnknownPartition)?;
    check(partition, leader, wanted)?;
    if wanted.isr.iter().any(|(id, epoch)| !is_eligible(view, *id, *epoch)) {
        return Err(IsrRefusal::IneligibleReplica);
    }
    if wanted.isr.iter().any(|(id, _)| !knows(*id)) {
        return Err(IsrRefusal::NotAttempted);
    }
    let Some(mut change) = view.change(wanted.id) else { return Err(IsrRefusal::UnknownPartition) };
    change.isr = wanted.isr.iter().map(|(id, _)| *id).collect();
    change.recovering = wanted.recovering;
    Ok(view.record(change, &Other::default()))
}

fn check(partition: &Partition, leader: BrokerId, wanted: &IsrChange) -> Result<(), IsrRefusal> {
    let (leader_epoch, partition_epoch) = (wanted.leader_epoch, wanted.partition_epoch);
    if leader_epoch > partition.leader_epoch || partition_epoch > partition.partition_epoch {
        return Err(IsrRefusal::NotController);
    }
    if leader_epoch < partition.leader_epoch {
        return Err(IsrRefusal::FencedLeaderEpoch);
    }
    if partition.leader != Some(leader) {
        return Err(IsrRefusal::InvalidRequest);
    }
    if partition_epoch < partition.partition_epoch {
        return Err(IsrRefusal::InvalidUpdateVersion);
    }
    let mut members = BTreeSet::new();
    let are_replicas = wanted.isr.iter().all(|(id, _)| partition.has_replica(*id) && members.insert(*id));
    let premature = wanted.recovering && (wanted.isr.len() > 1 || !partition.recovering);
    if !are_replicas || !members.contains(&leader) || premature {
        return Err(IsrRefusal::InvalidRequest);
    }
    Ok(())
}

fn is_eligible(view: &View<'_>, id: BrokerId, epoch: BrokerEpoch) -> bool {
    view.is_active(id) && view.image.broker(id).is_some_and(|broker| broker.epoch == epoch)
}
