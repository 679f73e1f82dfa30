//! Elections that somebody asks for (KIP-460), and those that bring leaders back to where they are preferred.

use std::collections::BTreeMap;

use super::change::Election;
use super::view::{Other, View};
use crate::controller::request::{ControlError, ControlErrorKind as Kind, Elected};
use crate::metadata::records::Record;
use crate::model::{BrokerId, MonoMs, PartitionId};

fn refuse<T>(kind: Kind, message: impl Into<String>) -> Result<T, ControlError> {
    Err(ControlError::new(kind, message))
}

/// `None` for all partitions; those that need no election are then not told.
pub fn elect(
    view: &View<'_>,
    partitions: Option<&[(String, i32)]>,
    unclean: bool,
) -> (Vec<Record>, Vec<Elected>) {
    let mut records = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut one = |name: &str, index: i32| {
        let record = election(view, name, index, unclean)?;
        if seen.insert((name.to_owned(), index)) {
            records.push(record);
        }
        Ok(())
    };
    let results = match partitions {
        Some(some) => some.iter().map(|(name, index)| (name.clone(), *index, one(name, *index))).collect(),
        None => {
            let topics = view.image.topics();
            let all = topics.flat_map(|topic| (0..topic.partitions.len() as i32).map(move |i| (topic, i)));
            let results = all.map(|(topic, i)| (topic.name.to_string(), i, one(&topic.name, i)));
            let told = |(_, _, result): &Elected| !matches!(result, Err(error) if error.kind == Kind::ElectionNotNeeded);
            results.filter(told).collect()
        }
    };
    (records, results)
}

fn election(view: &View<'_>, name: &str, index: i32, unclean: bool) -> Result<Record, ControlError> {
    let Some(topic) = view.image.topic(name) else {
        return refuse(Kind::UnknownTopic, format!("No such topic as {name}"));
    };
    let Some(mut change) = view.change(PartitionId { topic: topic.id, index }) else {
        return refuse(Kind::UnknownTopic, format!("No such partition as {name}-{index}"));
    };
    let partition = change.partition();
    let is_led_well = match unclean {
        true => partition.leader.is_some(),
        false => partition.leader == Some(partition.replicas()[0]),
    };
    if is_led_well {
        return refuse(Kind::ElectionNotNeeded, "Leader election not needed for topic partition.");
    }
    change.election = if unclean { Election::Unclean } else { Election::Preferred };
    let elected = view.record(change, &Other::default());
    let elected = elected.filter(|record| matches!(record, Record::PartitionChanged { leader: Some(_), .. }));
    elected.map_or_else(
        || match unclean {
            true => refuse(
                Kind::EligibleLeadersNotAvailable,
                "Eligible topic partition leaders are not available.",
            ),
            false => refuse(Kind::PreferredLeaderNotAvailable, "The preferred leader was not available."),
        },
        Ok,
    )
}

/// Returns leaders to the replicas that are preferred, of those that were displaced before `until`: of each broker a tenth of
/// what it is preferred for, at least one, so that clients are not all sent elsewhere at once.
pub fn rebalance(view: &View<'_>, until: MonoMs) -> Vec<Record> {
    let mut given: BTreeMap<BrokerId, usize> = BTreeMap::new();
    let due = view.index.displaced().filter(|(_, since)| *since <= until);
    let back = |(id, _): (PartitionId, MonoMs)| {
        let mut change = view.change(id)?;
        let preferred = change.partition().replicas()[0];
        let draining = view.image.broker(preferred).is_none_or(|broker| broker.draining);
        let given = given.entry(preferred).or_default();
        if draining || *given >= (view.index.held(preferred).preferred / 10).max(1) {
            return None;
        }
        change.election = Election::Preferred;
        let record = view.record(change, &Other::default())?;
        let moved = matches!(record, Record::PartitionChanged { leader: Some(_), .. });
        *given += usize::from(moved);
        moved.then_some(record)
    };
    due.filter_map(back).collect()
}

/// Elects where nobody leads and somebody may by now: a topic may have chosen to lose records rather than to wait.
pub fn revive(view: &View<'_>) -> Vec<Record> {
    let elect = |id| {
        let record = view.record(view.change(id)?, &Other::default())?;
        matches!(record, Record::PartitionChanged { leader: Some(Some(_)), .. }).then_some(record)
    };
    view.index.leaderless().filter_map(elect).collect()
}
