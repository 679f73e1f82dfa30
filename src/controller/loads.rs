//! How much brokers hold and take: told with their heartbeats, kept by the controller alone and in memory. A new controller
//! knows nothing until every broker has told it all.

use std::collections::BTreeMap;

use crate::metadata::Image;
use crate::model::{BrokerEpoch, BrokerId, PartitionId};

/// Of a partition that the broker that tells it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionLoad {
    pub id: PartitionId,
    /// Of its log.
    pub bytes: u64,
    /// Bytes a second by which that grows.
    pub rate: u64,
}

/// The file system that holds a broker's partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub total: u64,
    pub free: u64,
}

/// What one heartbeat tells: what changed of what the broker leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerLoad {
    pub disk: Disk,
    pub partitions: Vec<PartitionLoad>,
    /// With this the controller has been told everything.
    pub whole: bool,
}

/// How much one partition is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub bytes: u64,
    pub rate: u64,
}

/// Beyond as many as there are partitions: what is deleted is forgotten now and then.
const SLACK: usize = 10_000;

#[derive(Clone, Debug, Default)]
pub struct Loads {
    partitions: BTreeMap<PartitionId, Load>,
    brokers: BTreeMap<BrokerId, Told>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    /// Of the life that told it.
    epoch: BrokerEpoch,
    disk: Disk,
    whole: bool,
}

impl Loads {
    pub fn hear(&mut self, id: BrokerId, epoch: BrokerEpoch, load: &BrokerLoad) {
        let before = self.brokers.get(&id).filter(|told| told.epoch == epoch);
        let whole = load.whole || before.is_some_and(|told| told.whole);
        self.brokers.insert(id, Told { epoch, disk: load.disk, whole });
        let told = load.partitions.iter().map(|of| (of.id, Load { bytes: of.bytes, rate: of.rate }));
        self.partitions.extend(told);
    }

    /// Of a partition whose leader has told it.
    pub fn of(&self, id: PartitionId) -> Option<Load> {
        self.partitions.get(&id).copied()
    }

    /// Of a broker that has told everything in this life.
    pub fn disk(&self, id: BrokerId, epoch: BrokerEpoch) -> Option<Disk> {
        let told = self.brokers.get(&id).filter(|told| told.epoch == epoch && told.whole)?;
        Some(told.disk).filter(|disk| disk.total > 0)
    }

    /// Lets go what is no more.
    pub fn trim(&mut self, image: &Image) {
        if self.partitions.len() > image.partition_count() + SLACK {
            self.partitions.retain(|id, _| image.partition(*id).is_some());
        }
        self.brokers.retain(|id, _| image.broker(*id).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    #[test]
    fn a_broker_is_known_once_it_has_told_everything_in_its_life() {
        let mut loads = Loads::default();
        let disk = Disk { total: 10, free: 5 };
        let id = PartitionId { topic: TopicId([1; 16]), index: 0 };
        let part = |whole| {
            let partitions = vec![PartitionLoad { id, bytes: 7, rate: 1 }];
            BrokerLoad { disk, partitions, whole }
        };
        loads.hear(1, BrokerEpoch(5), &part(false));
        assert_eq!((loads.disk(1, BrokerEpoch(5)), loads.of(id)), (None, Some(Load { bytes: 7, rate: 1 })));
        loads.hear(1, BrokerEpoch(5), &part(true));
        loads.hear(1, BrokerEpoch(5), &part(false));
        assert_eq!(loads.disk(1, BrokerEpoch(5)), Some(disk));
        assert_eq!(loads.disk(1, BrokerEpoch(6)), None, "another life has told nothing");
        loads.hear(1, BrokerEpoch(6), &part(false));
        assert_eq!(loads.disk(1, BrokerEpoch(6)), None);
    }
}
