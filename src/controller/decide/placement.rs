//! Which brokers hold new partitions, and whether an assignment by hand can be.

use std::collections::BTreeSet;

use crate::controller::request::{ControlError, ControlErrorKind as Kind, NewTopic};
use crate::metadata::records::Record;
use crate::metadata::{Broker, Image, MAX_REPLICAS};
use crate::model::{BrokerId, TopicId};

fn refuse<T>(kind: Kind, message: impl Into<String>) -> Result<T, ControlError> {
    Err(ControlError::new(kind, message))
}

/// Brokers that new replicas may go to.
pub fn takers(image: &Image) -> Vec<&Broker> {
    let takes = |broker: &&Broker| !broker.fenced && !broker.draining && !broker.shutting_down;
    image.brokers().filter(takes).collect()
}

/// How many replicas a new topic's partitions get: without a wish `default`, or as many as there are brokers.
pub fn factor(image: &Image, topic: &NewTopic, default: usize) -> Result<usize, ControlError> {
    let takers = takers(image).len();
    let factor = match topic.replication_factor {
        -1 => default.min(takers).max(1),
        factor if factor <= 0 => {
            return refuse(
                Kind::InvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            );
        }
        factor => factor as usize,
    };
    match factor > takers.min(MAX_REPLICAS) {
        true => refuse(Kind::InvalidReplicationFactor, too_few(image, factor)),
        false => Ok(factor),
    }
}

/// Says that there are too few brokers for a factor, and how many there are.
fn too_few(image: &Image, factor: usize) -> String {
    let (takers, all) = (takers(image).len(), image.brokers().len());
    let others = match all - takers {
        0 => String::new(),
        n => format!(" and {n} more cannot take any at present"),
    };
    format!(
        "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
         reached because only {takers} broker(s) are registered{others}."
    )
}

/// Brokers of one rack, and in how many places each of them was put.
struct Rack<'a> {
    name: Option<&'a str>,
    brokers: Vec<(BrokerId, usize)>,
}

/// The replicas of partitions from `first` on: leaders go round the brokers, one rack after another, starting where the topic's
/// id says; the others are of the racks that follow, there on the brokers that have least of the topic.
pub fn place(image: &Image, topic: TopicId, factor: usize, first: usize, count: usize) -> Vec<Vec<BrokerId>> {
    let takers = takers(image);
    if takers.is_empty() {
        return Vec::new();
    }
    let mut racks: Vec<Rack<'_>> = Vec::new();
    for broker in &takers {
        let name = broker.rack.as_deref();
        match racks.iter_mut().find(|rack| rack.name == name) {
            Some(rack) => rack.brokers.push((broker.id, 0)),
            None => racks.push(Rack { name, brokers: vec![(broker.id, 0)] }),
        }
    }
    // Every broker once, neighbours in different racks while there are any.
    let longest = racks.iter().map(|rack| rack.brokers.len()).max().unwrap_or(0);
    let rows = (0..longest).flat_map(|row| (0..racks.len()).map(move |at| (at, row)));
    let leaders: Vec<(usize, usize)> = rows.filter(|(at, row)| *row < racks[*at].brokers.len()).collect();
    let start = u64::from_le_bytes(*topic.0.first_chunk().expect("sixteen bytes")) as usize;
    let start = start % leaders.len();
    // Earlier partitions count for where later ones go.
    let placed = (0..first + count).map(|index| {
        let (at, row) = leaders[(start + index) % leaders.len()];
        let turn = (start + index) / leaders.len();
        one(&mut racks, (at, row), turn, factor.min(takers.len()))
    });
    placed.skip(first).collect()
}

/// One partition's replicas. `turn` changes which rack follows the leader's.
fn one(racks: &mut [Rack<'_>], leader: (usize, usize), turn: usize, factor: usize) -> Vec<BrokerId> {
    let first = &mut racks[leader.0].brokers[leader.1];
    first.1 += 1;
    let mut replicas = vec![first.0];
    let others = racks.len() - 1;
    let mut round: Vec<usize> =
        (0..others).map(|n| (leader.0 + 1 + (n + turn) % others) % racks.len()).collect();
    round.push(leader.0);
    let mut next = round.iter().cycle();
    while replicas.len() < factor {
        let rack = &mut racks[*next.next().expect("it goes round")];
        let len = rack.brokers.len();
        // Of those with least the one that follows the leader's place.
        let order = (1..=len).map(|n| (leader.1 + n) % len);
        let free = order.filter(|at| !replicas.contains(&rack.brokers[*at].0));
        if let Some(at) = free.min_by_key(|at| rack.brokers[*at].1) {
            rack.brokers[at].1 += 1;
            replicas.push(rack.brokers[at].0);
        }
    }
    replicas
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

/// Whether of each partition's replicas one at least can lead it.
pub fn check_live(image: &Image, first: usize, new: &[Vec<BrokerId>]) -> Result<(), ControlError> {
    let dead = (first..).zip(new).find(|(_, replicas)| !replicas.iter().any(|id| is_active(image, *id)));
    match dead {
        None => Ok(()),
        Some((index, _)) => refuse(
            Kind::InvalidReplicaAssignment,
            format!(
                "All brokers specified in the manual partition assignment for partition {index} are fenced or in \
                 controlled shutdown."
            ),
        ),
    }
}

fn is_active(image: &Image, id: BrokerId) -> bool {
    image.broker(id).is_some_and(|broker| !broker.fenced && !broker.shutting_down)
}

/// A new partition: in sync are the replicas that are there, and the first of them leads.
pub fn new_partition(image: &Image, topic: TopicId, index: i32, replicas: Vec<BrokerId>) -> Record {
    let isr: Vec<BrokerId> = replicas.iter().copied().filter(|id| is_active(image, *id)).collect();
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
        last_known: None,
        recovering: false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::controller::{Registration, register};
    use crate::model::BrokerSettings;

    /// A broker as it is, in a rack.
    fn registration(broker: &Broker, rack: Option<String>) -> [Record; 2] {
        let (id, epoch) = (broker.id, broker.epoch.0 as u64);
        [
            Record::BrokerRegistered {
                id,
                incarnation: broker.incarnation,
                epoch,
                directory: broker.directory,
                endpoints: broker.endpoints.clone(),
                rack,
                shards: 1,
                features: Vec::new(),
                build: String::new(),
            },
            Record::BrokerChanged { id, epoch, fenced: Some(false), draining: None, shutting_down: None },
        ]
    }

    fn image(brokers: &[BrokerId]) -> Image {
        brokers.iter().fold(Image::empty(), |image, id| {
            let settings = BrokerSettings { broker_id: *id, ..BrokerSettings::default() };
            let registration = Registration::of(&settings, 1, [*id as u8; 16], [1; 16]);
            image.with(&register(&image, image.version + 1, &registration)).unwrap().0
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
        let of = |replication_factor| {
            let topic = NewTopic { replication_factor, ..NewTopic::named("t") };
            factor(&image, &topic, 3).map_err(|error| error.message)
        };
        assert_eq!([of(-1), of(2)], [Ok(3), Ok(2)]);
        assert!(of(4).unwrap_err().contains("only 3 broker(s) are registered"));
        assert!(of(0).is_err());
    }

    #[test]
    fn replicas_are_of_different_racks_and_spread_evenly() {
        for racks in [&["a", "b", "c"][..], &["a", "a", "b", "b", "c", "c"], &["a", "b"], &["a"; 5]] {
            let mut image = image(&(1..=racks.len() as i32).collect::<Vec<_>>());
            let rack = |id: &BrokerId| racks[*id as usize - 1];
            for id in 1..=racks.len() as i32 {
                let broker = image.broker(id).unwrap().clone();
                let records = registration(&broker, Some(rack(&id).to_owned()));
                image = image.with(&records).unwrap().0;
            }
            let names: BTreeSet<_> = racks.iter().collect();
            for (seed, factor) in [(0, 1), (3, 2), (77, 3)] {
                let factor = usize::min(factor, racks.len());
                let count = racks.len() * 6;
                let placed = place(&image, TopicId([seed; 16]), factor, 0, count);
                let mut replicas = BTreeMap::new();
                let mut leaders = BTreeMap::new();
                for ids in &placed {
                    let of: BTreeSet<_> = ids.iter().map(rack).collect();
                    assert_eq!(of.len(), factor.min(names.len()), "{ids:?} of {racks:?}");
                    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), factor);
                    *leaders.entry(ids[0]).or_insert(0) += 1;
                    ids.iter().for_each(|id| *replicas.entry(*id).or_insert(0) += 1);
                }
                assert!(leaders.values().all(|n| *n == 6), "{racks:?} {leaders:?}");
                let (least, most) = (replicas.values().min().unwrap(), replicas.values().max().unwrap());
                assert!(most - least <= 6, "{racks:?} {factor} {replicas:?}");
            }
        }
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
