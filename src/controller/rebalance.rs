//! When the cluster is balanced: the planner's moves made into records.

use std::collections::BTreeSet;

use super::Controller;
use super::decide::reassign;
use super::decide::view::{Other, View};
use super::planner::{self, Limits, World};
use crate::metadata::records::Record;
use crate::model::{BrokerId, MonoMs, TopicId};

/// The shortest time between two plans.
const LEAST_MS: i64 = 1_000;

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
#[path = "rebalance_tests.rs"]
mod tests;
