//! What becomes of partitions when brokers come, go and stop.

use std::collections::BTreeSet;

use super::change::Change;
use super::view::{Other, View};
use crate::controller::brokers::Registration;
use crate::metadata::records::Record;
use crate::metadata::{Broker, Image, Topic};
use crate::model::topic_config::WRITE_CACHING;
use crate::model::{BrokerEpoch, BrokerId, PartitionId};

/// The broker as it registers, fenced, in the epoch of the commit that has it. Last of the records, so that a change of many
/// commits is undone or done with it.
pub fn registered(id: BrokerId, epoch: BrokerEpoch, registration: &Registration) -> Record {
    Record::BrokerRegistered {
        id,
        incarnation: registration.incarnation,
        epoch: epoch.0 as u64,
        directory: registration.directory,
        endpoints: registration.endpoints.clone(),
        rack: registration.rack.clone(),
        shards: registration.shards,
        features: registration.features.clone(),
        build: registration.build.clone(),
    }
}

/// A change of a broker that changes nothing yet.
pub fn changed(broker: &Broker) -> Record {
    changed_in(broker.id, broker.epoch)
}

pub fn changed_in(id: BrokerId, epoch: BrokerEpoch) -> Record {
    Record::BrokerChanged { id, epoch: epoch.0 as u64, fenced: None, draining: None, shutting_down: None }
}

pub fn fenced(broker: &Broker, is: bool) -> Record {
    let mut record = changed(broker);
    if let Record::BrokerChanged { fenced, .. } = &mut record {
        *fenced = Some(is);
    }
    record
}

pub fn shutting_down(broker: &Broker) -> Record {
    let mut record = changed(broker);
    if let Record::BrokerChanged { shutting_down, .. } = &mut record {
        *shutting_down = Some(true);
    }
    record
}

/// Brokers are fenced: they leave every ISR, and lead nothing. What they were eligible for they stay eligible for.
pub fn fence(view: &View<'_>, brokers: &BTreeSet<BrokerId>) -> Vec<Record> {
    let touched: BTreeSet<PartitionId> = brokers.iter().flat_map(|id| view.index.counts(*id)).collect();
    let other = Other { gone: brokers.clone(), come: None };
    let leave = |id: PartitionId| {
        let mut change = view.change(id)?;
        change.isr.retain(|member| !brokers.contains(member));
        view.record(change, &other)
    };
    let mut records: Vec<Record> = touched.into_iter().filter_map(leave).collect();
    records.extend(brokers.iter().filter_map(|id| view.image.broker(*id)).map(|broker| fenced(broker, true)));
    records
}

/// A broker may lead again: what nobody leads gets a leader, if it is eligible there.
pub fn unfence(view: &View<'_>, broker: &Broker) -> Vec<Record> {
    let other = Other { gone: BTreeSet::new(), come: Some(broker.id) };
    let mut records = vec![fenced(broker, false)];
    let elect = |id| view.record(view.change(id)?, &other);
    records.extend(view.index.leaderless().filter_map(elect));
    records
}

/// How a broker comes.
struct Return<'a> {
    id: BrokerId,
    /// With another directory than it had: nothing of what it had is there.
    empty: bool,
    /// Its last life ended with all it had appended on disk.
    clean: bool,
    needs_repair: &'a BTreeSet<PartitionId>,
    /// It is unfenced with this: it may lead at once.
    serves: bool,
}

/// A broker comes in a new life: all records of that, and the epoch of the life, which is the offset of the last commit of so
/// many records. `serves`: without being fenced first, as the controller of its own cluster does.
pub fn come(
    view: &View<'_>,
    id: BrokerId,
    registration: &Registration,
    serves: bool,
    lands_at: impl FnOnce(usize) -> u64,
) -> (BrokerEpoch, Vec<Record>) {
    let known = view.image.broker(id);
    let needs_repair = registration.needs_repair.iter().copied().collect();
    let back = Return {
        id,
        // Whoever is its own controller has its metadata from the directory that it registers.
        empty: !serves && known.is_some_and(|broker| broker.directory != registration.directory),
        clean: known.is_some_and(|broker| registration.stopped_in == Some(broker.epoch)),
        needs_repair: &needs_repair,
        serves,
    };
    let mut records = returned(view, &back);
    let says_more = known.is_some() || serves;
    let epoch = BrokerEpoch(lands_at(records.len() + 1 + usize::from(says_more)) as i64);
    records.push(registered(id, epoch, registration));
    if says_more {
        records.push(Record::BrokerChanged {
            id,
            epoch: epoch.0 as u64,
            fenced: serves.then_some(false),
            draining: known.map(|broker| broker.draining),
            shutting_down: None,
        });
    }
    (epoch, records)
}

/// It leaves every ISR. What it had on disk it still has, so that it stays eligible, but where it says otherwise, where the
/// topic does not wait for the disk, and everywhere if the disk is another one. Where it leads again, no epoch has batches of
/// two lives.
fn returned(view: &View<'_>, back: &Return<'_>) -> Vec<Record> {
    let other = match back.serves {
        true => Other { gone: BTreeSet::new(), come: Some(back.id) },
        false => Other { gone: BTreeSet::from([back.id]), come: None },
    };
    let leave = |id: PartitionId| {
        let topic = view.image.topic_by_id(id.topic)?;
        let mut change = view.change(id)?;
        let lost = back.empty || back.needs_repair.contains(&id) || !back.clean && is_cached(topic);
        // Who alone has a partition has it best, whatever is missing.
        if lost && (back.empty || !is_alone(&change, back.id)) {
            change.lost = Some(back.id);
        }
        change.empty = back.empty;
        change.renewed = Some(back.id);
        view.record(change.without(back.id), &other)
    };
    let mut touched: BTreeSet<PartitionId> = view.index.counts(back.id).collect();
    if back.empty {
        let led = |id: &PartitionId| view.image.partition(*id).and_then(|p| p.last_known()) == Some(back.id);
        touched.extend(view.index.leaderless().filter(led));
    }
    if back.serves {
        touched.extend(view.index.leaderless());
    }
    touched.into_iter().filter_map(leave).collect()
}

/// A broker that lives says that it has not all of some partitions.
pub fn damaged(view: &View<'_>, id: BrokerId, partitions: &[PartitionId]) -> Vec<Record> {
    let other = Other { gone: BTreeSet::from([id]), come: None };
    let leave = |at: &PartitionId| {
        let mut change = view.change(*at).filter(|change| change.partition().counts(id))?;
        if is_alone(&change, id) {
            return None;
        }
        change.lost = Some(id);
        view.record(change.without(id), &other)
    };
    let each: BTreeSet<PartitionId> = partitions.iter().copied().collect();
    each.iter().filter_map(leave).collect()
}

/// A broker is taken out of the cluster: nobody waits for it any more.
pub fn unregister(view: &View<'_>, broker: &Broker) -> Vec<Record> {
    let other = Other { gone: BTreeSet::from([broker.id]), come: None };
    let leave = |id: PartitionId| {
        let mut change = view.change(id)?;
        change.lost = Some(broker.id);
        view.record(change.without(broker.id), &other)
    };
    let mut records: Vec<Record> = view.index.counts(broker.id).filter_map(leave).collect();
    records.push(Record::BrokerUnregistered { id: broker.id, epoch: broker.epoch.0 as u64 });
    records
}

/// Moves what a broker that would stop leads or is in sync with, as far as others can take over. What nobody can take over it
/// serves to the end.
pub fn hand_over(view: &View<'_>, id: BrokerId) -> Vec<Record> {
    let other = Other { gone: BTreeSet::from([id]), come: None };
    let leave = |at: PartitionId| {
        let change = view.change(at)?;
        if !can_leave(view, &change, id) {
            return None;
        }
        view.record(change.without(id), &other)
    };
    view.index.counts(id).filter_map(leave).collect()
}

/// Whether a broker leads what another could lead.
pub fn leads_for_others(view: &View<'_>, id: BrokerId) -> bool {
    view.index.counts(id).any(|at| {
        view.change(at)
            .is_some_and(|change| change.partition().leader == Some(id) && can_leave(view, &change, id))
    })
}

fn can_leave(view: &View<'_>, change: &Change<'_>, id: BrokerId) -> bool {
    let in_sync = change.isr.contains(&id);
    in_sync && change.isr.iter().any(|other| *other != id && view.is_active(*other))
}

fn is_alone(change: &Change<'_>, id: BrokerId) -> bool {
    let partition = change.partition();
    partition.counts(id) && partition.isr().chain(partition.elr()).all(|other| other == id)
}

fn is_cached(topic: &Topic) -> bool {
    topic.overrides.get(WRITE_CACHING).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
}

/// The id of a broker that never had one: higher than any that has a part in anything.
pub fn free_id(image: &Image, highest: Option<BrokerId>) -> Option<BrokerId> {
    let registered = image.brokers().map(|broker| broker.id).max();
    registered.max(highest).unwrap_or(0).max(0).checked_add(1)
}
