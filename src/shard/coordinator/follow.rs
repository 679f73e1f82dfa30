//! Which machines there are: as the metadata says who leads their partitions.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::driver::Unavailable;
use super::kinds::Kind;
use crate::metadata::Image;
use crate::model::{LeaderEpoch, PartitionId};
use crate::partition::Role;
use crate::shard::Shard;

impl Shard {
    /// Machines for partitions that are led here, each for one epoch of theirs: another epoch loads anew, the same one again
    /// does not. None for the others.
    pub(in crate::shard) fn follow_topic<M: Kind>(self: &Rc<Self>, image: &Arc<Image>) {
        let driver = M::driver(self);
        let topic = image.topic(M::TOPIC);
        let ours = topic.into_iter().flat_map(|topic| topic.partition_ids()).filter(|id| self.me.owns(*id));
        // Where this broker leads, and since which epoch.
        let wanted: BTreeMap<PartitionId, LeaderEpoch> = ours
            .filter_map(|id| {
                let replica = self.replica(id).filter(|replica| replica.role() == Role::Leader)?;
                Some((id, replica.leader().1))
            })
            .collect();
        let gone: Vec<PartitionId> = {
            let slots = driver.slots.borrow();
            slots
                .iter()
                .filter(|(id, slot)| wanted.get(id) != Some(&slot.epoch()))
                .map(|(id, _)| *id)
                .collect()
        };
        for id in gone {
            if let Some(slot) = driver.slots.borrow_mut().remove(&id) {
                slot.end();
            }
            M::left(self, id);
            driver.turn_away(id, Unavailable::NotHere);
        }
        for id in wanted.into_keys() {
            if !driver.slots.borrow().contains_key(&id) {
                self.take_up::<M>(id);
            }
        }
    }

    /// Tells a driver's machines that topics went away.
    pub(in crate::shard) fn forget_topics<M: Kind>(self: &Rc<Self>, names: &[String]) {
        let partitions: Vec<PartitionId> = M::driver(self).slots.borrow().keys().copied().collect();
        for partition in partitions {
            self.step::<M>(partition, |machine, fx| machine.topics_deleted(names, fx));
        }
    }
}
