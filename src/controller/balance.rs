//! What the controller knows of loads and of moves, and what is left alone: in memory; a new controller begins with nothing of
//! it.

use std::collections::{BTreeMap, BTreeSet};

use super::loads::Loads;
use super::request::Reassignment;
use crate::metadata::Image;
use crate::metadata::records::Record;
use crate::model::{BrokerEpoch, BrokerId, MonoMs, PartitionId, TopicId};

#[derive(Clone, Debug, Default)]
pub struct Balance {
    /// When leaders and replicas were looked over.
    pub looked: MonoMs,
    pub loads: Loads,
    pub planned: MonoMs,
    /// Who there was then.
    pub members: Vec<Member>,
    /// What this controller moves by itself, and whether some of that has arrived since.
    pub own: BTreeSet<PartitionId>,
    pub arrived: bool,
    /// Topics that somebody has moved, and when.
    pub by_hand: BTreeMap<TopicId, MonoMs>,
    /// Since when brokers are fenced.
    pub fenced: BTreeMap<BrokerId, MonoMs>,
}

/// A broker as far as it matters for where replicas go.
pub type Member = (BrokerId, BrokerEpoch, [bool; 3]);

impl Balance {
    /// As one that begins to lead.
    pub fn begun(now: MonoMs) -> Self {
        Self { looked: now, planned: now, ..Self::default() }
    }

    /// Partitions that this controller moves by itself, for whatever reason.
    pub fn note_own(&mut self, records: &[Record]) {
        let moves = |record: &Record| match record {
            Record::PartitionChanged { topic, index, adding, removing, .. } => (adding.is_some()
                || removing.is_some())
            .then_some(PartitionId { topic: *topic, index: *index }),
            _ => None,
        };
        self.own.extend(records.iter().filter_map(moves));
    }

    /// Somebody has these moved.
    pub fn note_by_hand(&mut self, image: &Image, wanted: &[Reassignment], now: MonoMs) {
        let topics = wanted.iter().filter_map(|wanted| image.topic(&wanted.topic));
        for topic in topics {
            self.by_hand.insert(topic.id, now);
            self.own.retain(|id| id.topic != topic.id);
        }
    }

    /// Who there is; since when brokers are fenced.
    pub fn follow(&mut self, image: &Image, now: MonoMs) -> Vec<Member> {
        for broker in image.brokers() {
            match broker.fenced {
                true => _ = self.fenced.entry(broker.id).or_insert(now),
                false => _ = self.fenced.remove(&broker.id),
            }
        }
        self.fenced.retain(|id, _| image.broker(*id).is_some());
        let member = |broker: &crate::metadata::Broker| {
            (broker.id, broker.epoch, [broker.fenced, broker.draining, broker.shutting_down])
        };
        image.brokers().map(member).collect()
    }
}
