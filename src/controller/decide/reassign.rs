//! Moving partitions between brokers (KIP-455): what is added is a replica at once, what is taken away stays one until all that
//! is added is in sync.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::change::{Change, Election};
use super::placement::check_replicas;
use super::view::{Other, View};
use crate::controller::request::{ControlError, ControlErrorKind as Kind, Moving, Reassignment};
use crate::metadata::records::Record;
use crate::model::{BrokerId, PartitionId};

type Results = Vec<Result<(), ControlError>>;

fn refuse<T>(kind: Kind, message: impl Into<String>) -> Result<T, ControlError> {
    Err(ControlError::new(kind, message))
}

/// Each partition succeeds or fails by itself.
pub fn reassign(view: &View<'_>, wanted: &[Reassignment], factor_may_change: bool) -> (Vec<Record>, Results) {
    let mut records = Vec::new();
    let mut seen = BTreeSet::new();
    let results = wanted.iter().map(|wanted| {
        let change = find(view, wanted)?;
        if !seen.insert(change.id) {
            return refuse(Kind::InvalidRequest, "Each partition must appear at most once.");
        }
        let change = match &wanted.replicas {
            None => cancel(view, wanted, change)?,
            Some(replicas) => {
                check_replicas(view.image, replicas)?;
                to(change, replicas, factor_may_change)?
            }
        };
        records.extend(view.record(change, &Other::default()));
        Ok(())
    });
    let results = results.collect();
    (records, results)
}

fn find<'a>(view: &'a View<'_>, wanted: &Reassignment) -> Result<Change<'a>, ControlError> {
    let (name, index) = (&wanted.topic, wanted.index);
    let Some(topic) = view.image.topic(name) else {
        return refuse(Kind::UnknownTopic, format!("Unable to find a topic named {name}."));
    };
    match view.change(PartitionId { topic: topic.id, index }) {
        Some(change) => Ok(change),
        None => refuse(Kind::UnknownTopic, format!("Unable to find partition {name}:{index}.")),
    }
}

/// What held the partition before the move that it is in.
fn before(change: &Change<'_>) -> Vec<BrokerId> {
    change.replicas.iter().copied().filter(|id| !change.adding.contains(id)).collect()
}

/// Begins a move, or another one in its place.
pub fn to<'a>(
    mut change: Change<'a>,
    target: &[BrokerId],
    factor_may_change: bool,
) -> Result<Change<'a>, ControlError> {
    let before = before(&change);
    let moving = change.partition().is_moving();
    let ends_with = match moving {
        true => change.replicas.iter().filter(|id| !change.removing.contains(id)).count(),
        false => before.len(),
    };
    if !factor_may_change && ends_with != target.len() {
        let why = format!("The replication factor is changed from {ends_with} to {}", target.len());
        return refuse(Kind::InvalidReplicationFactor, why);
    }
    let is_wanted = |id: &BrokerId| target.contains(id) || before.contains(id);
    // Replicas of the former move that nobody wants any more go at once, unless nobody else is in sync.
    let kept = change.isr.iter().any(is_wanted);
    let late: Vec<BrokerId> = change.adding.iter().copied().filter(|id| !is_wanted(id) && !kept).collect();
    change.isr.retain(|id| is_wanted(id) || late.contains(id));
    change.adding = target.iter().copied().filter(|id| !before.contains(id)).collect();
    change.removing = before.iter().copied().filter(|id| !target.contains(id)).chain(late).collect();
    change.replicas = target.iter().chain(&change.removing).copied().collect();
    Ok(change)
}

/// Goes back to what was before.
fn cancel<'a>(
    view: &View<'_>,
    wanted: &Reassignment,
    mut change: Change<'a>,
) -> Result<Change<'a>, ControlError> {
    if !change.partition().is_moving() {
        return refuse(Kind::NoReassignment, "No partition reassignment is in progress.");
    }
    let before = before(&change);
    change.isr.retain(|id| before.contains(id));
    let eligible = change.partition().elr().any(|id| before.contains(&id) && view.is_active(id));
    if change.isr.is_empty() && !eligible && change.election != Election::Unclean {
        let why = format!(
            "Unable to revert partition assignment for {}:{} because it would require an unclean leader election.",
            wanted.topic, wanted.index
        );
        return refuse(Kind::InvalidReplicaAssignment, why);
    }
    change.replicas = before;
    change.adding.clear();
    change.removing.clear();
    Ok(change)
}

/// What is being moved, of some partitions or of all there are.
pub fn list(view: &View<'_>, partitions: Option<&[(String, i32)]>) -> Vec<Moving> {
    let moving = |id: PartitionId| {
        let topic = view.image.topic_by_id(id.topic)?;
        let partition = topic.partition(id.index).filter(|partition| partition.is_moving())?;
        Some(Moving {
            topic: Arc::clone(&topic.name),
            index: id.index,
            replicas: partition.replicas().to_vec(),
            adding: partition.adding().collect(),
            removing: partition.removing().collect(),
        })
    };
    let named = |(name, index): &(String, i32)| {
        Some(PartitionId { topic: view.image.topic(name)?.id, index: *index })
    };
    match partitions {
        Some(some) => some.iter().filter_map(named).filter_map(moving).collect(),
        None => view.index.moving().iter().copied().filter_map(moving).collect(),
    }
}
