//! Taking what a broker holds elsewhere: what needs no copies at once, of the rest as much at a time as may be moved.

use std::collections::BTreeMap;

use super::factor::{MAX_MOVING, another};
use super::membership;
use super::placement::takers;
use super::reassign::to;
use super::view::{Other, View};
use crate::controller::request::{ControlError, ControlErrorKind as Kind};
use crate::metadata::records::Record;
use crate::metadata::{Broker, Topic};
use crate::model::report::{Drain, Drained, Place};
use crate::model::{BrokerId, PartitionId};

/// What becomes of a partition that a broker holds: who holds it then.
enum Fate {
    Moves(Vec<BrokerId>),
    /// There is no other broker for it, but others that hold it.
    Shrinks(Vec<BrokerId>),
    /// Nobody else holds it or could.
    Stays,
}

/// What a drain comes to. It is done if every partition can be taken elsewhere, or may have fewer replicas.
pub fn drain(view: &View<'_>, wanted: &Drain) -> Result<(Vec<Record>, Drained), ControlError> {
    let Some(broker) = view.image.broker(wanted.broker) else {
        let why = format!("Broker ID {} is not currently registered", wanted.broker);
        return Err(ControlError::new(Kind::BrokerNotRegistered, why));
    };
    let mut drained = Drained::default();
    if wanted.end {
        drained.done = !wanted.dry_run;
        let ends = broker.draining && drained.done;
        return Ok((ends.then(|| draining(broker, false)).into_iter().collect(), drained));
    }
    let fates: Vec<_> = fates(view, wanted.broker).collect();
    for (topic, id, fate) in &fates {
        let (list, replicas) = match fate {
            Fate::Moves(replicas) => (&mut drained.moved, replicas.clone()),
            Fate::Shrinks(replicas) => (&mut drained.fewer, replicas.clone()),
            Fate::Stays => (&mut drained.kept, vec![wanted.broker]),
        };
        list.push(Place { topic: topic.name.to_string(), partition: id.index, replicas });
    }
    drained.done = !wanted.dry_run && drained.kept.is_empty() && (wanted.fewer || drained.fewer.is_empty());
    if !drained.done {
        return Ok((Vec::new(), drained));
    }
    let mut records = Vec::new();
    let mut room = room(view);
    for (_, id, fate) in &fates {
        match fate {
            Fate::Moves(replicas) if room > 0 => {
                room -= 1;
                records.extend(moved(view, *id, replicas));
            }
            Fate::Shrinks(replicas) => records.extend(moved(view, *id, replicas)),
            _ => {}
        }
    }
    if !broker.draining {
        records.push(draining(broker, true));
    }
    Ok((records, drained))
}

/// Goes on taking from brokers that are drained, as far as there is room for moves.
pub fn go_on(view: &View<'_>) -> Vec<Record> {
    let mut records = Vec::new();
    let mut left = room(view);
    for broker in view.image.brokers().filter(|broker| broker.draining) {
        for (_, id, fate) in fates(view, broker.id) {
            match fate {
                Fate::Moves(replicas) if left > 0 => {
                    left -= 1;
                    records.extend(moved(view, id, &replicas));
                }
                Fate::Moves(_) => return records,
                _ => {}
            }
        }
    }
    records
}

fn room(view: &View<'_>) -> usize {
    MAX_MOVING.saturating_sub(view.index.moving().len())
}

fn draining(broker: &Broker, is: bool) -> Record {
    let mut record = membership::changed(broker);
    if let Record::BrokerChanged { draining, .. } = &mut record {
        *draining = Some(is);
    }
    record
}

fn moved(view: &View<'_>, id: PartitionId, replicas: &[BrokerId]) -> Option<Record> {
    let change = to(view.change(id)?, replicas, true).ok()?;
    view.record(change, &Other::default())
}

/// Of each partition that a broker holds and is not about to give up.
fn fates<'a>(
    view: &'a View<'_>,
    id: BrokerId,
) -> impl Iterator<Item = (&'a std::sync::Arc<Topic>, PartitionId, Fate)> + 'a {
    let takers: Vec<&Broker> = takers(view.image).into_iter().filter(|taker| taker.id != id).collect();
    let mut given: BTreeMap<BrokerId, usize> = BTreeMap::new();
    let all = view.image.topics().flat_map(|topic| {
        topic.partition_ids().zip(topic.partitions.iter()).map(move |(id, partition)| (topic, id, partition))
    });
    all.filter_map(move |(topic, at, partition)| {
        let mut replicas: Vec<BrokerId> = partition.replicas().to_vec();
        replicas.retain(|one| !partition.removing().any(|removed| removed == *one));
        let place = replicas.iter().position(|one| *one == id)?;
        let fate = match another(view.image, view.index, &replicas, &takers, &mut given) {
            // At the same place: who was preferred to lead is replaced by who is.
            Some(new) => {
                replicas[place] = new;
                Fate::Moves(replicas)
            }
            None if replicas.len() > 1 => {
                replicas.remove(place);
                Fate::Shrinks(replicas)
            }
            None => Fate::Stays,
        };
        Some((topic, at, fate))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::index::Index;
    use crate::controller::{Registration, register};
    use crate::metadata::Image;
    use crate::model::{BrokerSettings, MonoMs, TopicId};

    const TOPIC: TopicId = TopicId([1; 16]);

    fn image(brokers: i32, replicas: &[&[BrokerId]]) -> Image {
        let image = (1..=brokers).fold(Image::empty(), |image, id| {
            let settings = BrokerSettings { broker_id: id, ..BrokerSettings::default() };
            let registration = Registration::of(&settings, 1, [id as u8; 16], [1; 16]);
            image.with(&register(&image, image.version + 1, &registration)).unwrap().0
        });
        let mut records = vec![Record::Topic { id: TOPIC, name: "t".into() }];
        records.extend((0..).zip(replicas).map(|(index, ids)| Record::new_partition(TOPIC, index, ids)));
        image.with(&records).unwrap().0
    }

    fn ask(image: &Image, wanted: Drain) -> (Image, Drained) {
        let index = Index::of(image, MonoMs::ZERO);
        let (records, drained) = drain(&View { image, index: &index }, &wanted).unwrap();
        assert!(drained.done || records.is_empty());
        let image = if records.is_empty() { image.clone() } else { image.with(&records).unwrap().0 };
        (image, drained)
    }

    fn of(broker: BrokerId) -> Drain {
        Drain { broker, end: false, fewer: false, dry_run: false }
    }

    fn at(index: i32) -> PartitionId {
        PartitionId { topic: TOPIC, index }
    }

    #[test]
    fn what_others_can_hold_goes_to_who_holds_least_and_comes_back_by_nobody() {
        let before = image(4, &[&[1, 2], &[3, 1], &[2, 3], &[2, 4]]);
        let (dry, plan) = ask(&before, Drain { dry_run: true, ..of(1) });
        assert_eq!((plan.moved.len(), plan.fewer.len(), plan.kept.len(), plan.done), (2, 0, 0, false));
        assert_eq!(dry.version, before.version, "nothing was done");
        let (after, drained) = ask(&before, of(1));
        assert!(drained.done && after.broker(1).unwrap().draining);
        assert_eq!(drained.moved, plan.moved);
        let moving = after.partition(at(0)).unwrap();
        assert_eq!(
            (moving.adding().collect::<Vec<_>>(), moving.removing().collect::<Vec<_>>()),
            (vec![4], vec![1])
        );
        assert_eq!(moving.leader, Some(1), "it leads until another has all");
        assert!(!after.partition(at(2)).unwrap().is_moving());
        assert!(takers(&after).iter().all(|taker| taker.id != 1));
        let (again, repeated) = ask(&after, of(1));
        assert!(repeated.moved.is_empty() && !again.partition(at(2)).unwrap().is_moving());
        let (ended, _) = ask(&after, Drain { end: true, ..of(1) });
        assert!(!ended.broker(1).unwrap().draining);
    }

    #[test]
    fn what_cannot_be_kept_is_said_before_it_is_done() {
        let before = image(3, &[&[1, 2, 3], &[1]]);
        let (same, refused) = ask(&before, of(1));
        assert_eq!((refused.moved.len(), refused.fewer.len(), refused.kept.len()), (1, 1, 0));
        assert!(!refused.done && !same.broker(1).unwrap().draining);
        assert_eq!(refused.fewer[0].replicas, [2, 3]);
        let (after, done) = ask(&before, Drain { fewer: true, ..of(1) });
        assert!(done.done);
        let shrunk = after.partition(at(0)).unwrap();
        assert_eq!((shrunk.replicas(), shrunk.leader, shrunk.is_moving()), (&[2, 3][..], Some(2), false));
        // Where nobody else could hold it, it stays, and nothing is begun.
        let alone = image(1, &[&[1]]);
        let (_, stays) = ask(&alone, Drain { fewer: true, ..of(1) });
        assert_eq!((stays.kept.len(), stays.done), (1, false));
    }

    #[test]
    fn much_is_moved_little_by_little() {
        let all: Vec<&[BrokerId]> = (0..MAX_MOVING + 5).map(|_| &[1][..]).collect();
        let before = image(2, &all);
        let (mut now, drained) = ask(&before, of(1));
        assert_eq!(drained.moved.len(), MAX_MOVING + 5);
        let moving = |image: &Image| Index::of(image, MonoMs::ZERO).moving().clone();
        let on = |image: &Image| {
            let index = Index::of(image, MonoMs::ZERO);
            go_on(&View { image, index: &index })
        };
        assert_eq!(moving(&now).len(), MAX_MOVING);
        assert!(on(&now).is_empty());
        // All that is moving arrives.
        let arrived: Vec<Record> = moving(&now)
            .into_iter()
            .map(|id| Record::PartitionChanged {
                topic: id.topic,
                index: id.index,
                leader: Some(Some(2)),
                replicas: Some(vec![2]),
                isr: Some(vec![2]),
                elr: None,
                adding: Some(vec![]),
                removing: Some(vec![]),
                last_known: None,
                recovering: None,
            })
            .collect();
        now = now.with(&arrived).unwrap().0;
        assert_eq!(on(&now).len(), 5);
    }
}
