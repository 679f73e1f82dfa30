//! Which brokers hold new partitions, and whether an assignment by hand can be.

use std::collections::BTreeSet;

use crate::controller::request::{ControlError, ControlErrorKind as Kind, NewTopic};
use crate::metadata::records::Record;
use crate::metadata::{Broker, Image, MAX_REPLICAS};
use crate::model::{BrokerId, TopicId};

/// What a topic without a factor of its own gets.
const DEFAULT_FACTOR: usize = 1;

fn refuse<T>(kind: Kind, message: impl Into<String>) -> Result<T, ControlError> {
    Err(ControlError::new(kind, message))
}

/// Brokers that new replicas may go to.
fn takers(image: &Image) -> Vec<BrokerId> {
    let takes = |broker: &&Broker| !broker.fenced && !broker.draining && !broker.shutting_down;
    image.brokers().filter(takes).map(|broker| broker.id).collect()
}

/// How many replicas a new topic's partitions get.
pub fn factor(image: &Image, topic: &NewTopic) -> Result<usize, ControlError> {
    let takers = takers(image).len();
    let factor = match topic.replication_factor {
        -1 => DEFAULT_FACTOR,
        factor if factor <= 0 => {
            return refuse(
                Kind::InvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            );
        }
        factor => factor as usize,
    };
    if factor > takers.min(MAX_REPLICAS) {
        let why = format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
             reached because only {takers} broker(s) are registered."
        );
        return refuse(Kind::InvalidReplicationFactor, why);
    }
    Ok(factor)
}

/// The replicas of partitions from `first` on: leaders go round the brokers, starting where the topic's id says.
pub fn place(image: &Image, topic: TopicId, factor: usize, first: usize, count: usize) -> Vec<Vec<BrokerId>> {
    let takers = takers(image);
    if takers.is_empty() {
        return Vec::new();
    }
    let start = u64::from_le_bytes(*topic.0.first_chunk().expect("sixteen bytes")) as usize % takers.len();
    let replicas = |index: usize| (0..factor).map(|n| takers[(start + index + n) % takers.len()]).collect();
    (first..first + count).map(replicas).collect()
}

/// Whether these may be a partition's replicas.
pub fn check_replicas(image: &Image, replicas: &[BrokerId]) -> Result<(), ControlError> {
    let invalid = |why: String| {
        refuse(Kind::InvalidReplicaAssignment, format!("The manual partition assignment includes {why}"))
    };
    if replicas.is_empty() {
        return invalid("an empty replica list.".into());
    }
    if let Some(id) = replicas.iter().find(|id| image.broker(**id).is_none()) {
        return invalid(format!("broker {id}, but no such broker is registered."));
    }
    let mut seen = BTreeSet::new();
    if let Some(id) = replicas.iter().find(|id| !seen.insert(**id)) {
        return invalid(format!("the broker {id} more than once."));
    }
    if replicas.len() > MAX_REPLICAS {
        return invalid(format!("more than {MAX_REPLICAS} brokers."));
    }
    Ok(())
}

/// A new partition: in sync are the replicas that are there, and the first of them leads.
pub fn new_partition(image: &Image, topic: TopicId, index: i32, replicas: Vec<BrokerId>) -> Record {
    let is_there = |id: &BrokerId| image.broker(*id).is_some_and(|broker| !broker.fenced);
    let isr: Vec<BrokerId> = replicas.iter().copied().filter(is_there).collect();
    Record::Partition {
        topic,
        index,
        leader: isr.first().copied(),
        leader_epoch: 0,
        partition_epoch: 0,
        replicas,
        isr,
        elr: Vec::new(),
        adding: Vec::new(),
        removing: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::brokers::{Registration, register};
    use super::*;
    use crate::model::BrokerSettings;

    fn image(brokers: &[BrokerId]) -> Image {
        brokers.iter().fold(Image::empty(), |image, id| {
            let settings = BrokerSettings { broker_id: *id, ..BrokerSettings::default() };
            let registration = Registration::of(&settings, 1, [*id as u8; 16], [1; 16]);
            image.with(&register(&image, image.version + 1, registration)).unwrap().0
        })
    }

    #[test]
    fn leaders_go_round_the_brokers() {
        let image = image(&[1, 2, 3]);
        for id in [[0; 16], [7; 16], [255; 16]] {
            let placed = place(&image, TopicId(id), 2, 0, 6);
            let mut leaders: Vec<BrokerId> = placed.iter().map(|replicas| replicas[0]).collect();
            assert!(placed.iter().all(|replicas| check_replicas(&image, replicas).is_ok()), "{placed:?}");
            leaders.sort_unstable();
            assert_eq!(leaders, [1, 1, 2, 2, 3, 3]);
            assert_eq!(
                place(&image, TopicId(id), 2, 3, 3),
                placed[3..],
                "later partitions go on where it ended"
            );
        }
        let of = |replication_factor| NewTopic { replication_factor, ..NewTopic::named("t") };
        assert_eq!([factor(&image, &of(-1)), factor(&image, &of(3))], [Ok(1), Ok(3)]);
        assert!(factor(&image, &of(4)).is_err() && factor(&image, &of(0)).is_err());
    }

    #[test]
    fn fenced_brokers_are_not_in_sync() {
        let image = image(&[1, 2, 3]);
        let epoch = image.broker(1).unwrap().epoch.0 as u64;
        let fenced =
            Record::BrokerChanged { id: 1, epoch, fenced: Some(true), draining: None, shutting_down: None };
        let (image, _) = image.with(&[fenced]).unwrap();
        let Record::Partition { leader, isr, .. } = new_partition(&image, TopicId([1; 16]), 0, vec![1, 2, 3])
        else {
            panic!("a partition");
        };
        assert_eq!((leader, isr), (Some(2), vec![2, 3]));
        assert!(place(&image, TopicId([1; 16]), 2, 0, 9).iter().flatten().all(|id| *id != 1));
    }
}
