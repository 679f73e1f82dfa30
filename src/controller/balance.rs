//! When the cluster is balanced, and what is left alone: the planner's moves made into records. What is kept here is the
//! controller's own, in memory; a new controller begins with nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use super::Controller;
use super::decide::reassign;
use super::decide::view::{Other, View};
use super::loads::Loads;
use super::planner::{self, Limits, World};
use super::request::Reassignment;
use crate::metadata::Image;
use crate::metadata::records::Record;
use crate::model::{BrokerEpoch, BrokerId, MonoMs, PartitionId, TopicId};

#[derive(Clone, Debug, Default)]
pub struct Balance {
    /// When leaders and replicas were looked over.
    pub looked: MonoMs,
    pub loads: Loads,
    planned: MonoMs,
    /// Who there was then.
    members: Vec<Member>,
    /// What this controller moves by itself, and whether some of that has arrived since.
    own: BTreeSet<PartitionId>,
    arrived: bool,
    /// Topics that somebody has moved, and when.
    by_hand: BTreeMap<TopicId, MonoMs>,
    /// Since when brokers are fenced.
    fenced: BTreeMap<BrokerId, MonoMs>,
}

/// A broker as far as it matters for where replicas go.
type Member = (BrokerId, BrokerEpoch, [bool; 3]);

/// The shortest time between two plans.
const LEAST_MS: i64 = 1_000;

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

    fn follow(&mut self, image: &Image, now: MonoMs) -> Vec<Member> {
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

impl<To> Controller<To> {
    /// Moves that make the cluster more even, if it is time for any.
    pub(super) fn rebalance(&mut self, now: MonoMs) -> Vec<Record> {
        let (image, rules) = (self.proposed.clone(), &self.rules);
        let members = self.balance.follow(&image, now);
        let Some(index) = self.index.as_ref().filter(|_| rules.balance && image.brokers().len() > 1) else {
            return Vec::new();
        };
        let balance = &mut self.balance;
        let before = balance.own.len();
        balance.own.retain(|id| index.moving().contains(id));
        balance.arrived |= balance.own.len() < before;
        let is_due =
            now.since(balance.planned) >= rules.plan_ms || balance.members != members || balance.arrived;
        if !is_due || now.since(balance.planned) < LEAST_MS {
            return Vec::new();
        }
        (balance.planned, balance.members, balance.arrived) = (now, members, false);
        balance.loads.trim(&image);
        balance
            .by_hand
            .retain(|id, at| now.since(*at) < rules.by_hand_ms && image.topic_by_id(*id).is_some());
        let gone = balance.fenced.iter().filter(|(_, since)| now.since(**since) >= rules.dead_ms);
        let dead: BTreeSet<BrokerId> = gone.map(|(id, _)| *id).collect();
        let foreign = index.moving().iter().filter(|id| !balance.own.contains(id)).map(|id| id.topic);
        let foreign: BTreeSet<TopicId> = foreign.collect();
        let world = World {
            image: &image,
            loads: &balance.loads,
            dead: &dead,
            paused: &|topic| foreign.contains(&topic) || balance.by_hand.contains_key(&topic),
            under_way: !balance.own.is_empty(),
        };
        let moves = planner::plan(&world, &Limits::default(), self.epoch as u64);
        let view = View { image: &image, index };
        let record = |one: &planner::Move| {
            let change = reassign::to(view.change(one.id)?, &one.replicas, true).ok()?;
            view.record(change, &Other::default())
        };
        let records: Vec<Record> = moves.iter().filter_map(record).collect();
        balance.note_own(&records);
        records
    }
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
