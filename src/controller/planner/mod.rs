//! Where replicas had best be: `plan(world, limits, seed) → moves`. Pure; the same seed gives the same plan.
//!
//! Goals, each before all that follow it (CLUSTER 4.2 in the design's words: hard limits, then repair, then balance):
//!
//! 1. no replica on a broker that is gone for long, 2. replicas of a partition in as many racks as there are, 3. replicas by
//!    broker as their disks are large, 4. bytes likewise, 5. preferred leaders alike, 6. what those are written likewise,
//! 7. each topic spread over the brokers.
//!
//! Never: two replicas on one broker, a target that is fenced, stops, is drained or would be too full, a plan where a broker
//! has not told its loads. Each step makes the whole better, goals compared in their order, so that no plan undoes another's.
//! A goal is left alone until something is off by more than its slack, and then only followed to within a smaller one.

mod goals;
mod rating;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::loads::Loads;
use crate::metadata::Image;
use crate::model::{BrokerId, PartitionId, TopicId};
use state::{State, Step};

/// What a plan rests on.
pub struct World<'a> {
    pub image: &'a Image,
    pub loads: &'a Loads,
    /// Fenced for so long that what they hold is to be elsewhere.
    pub dead: &'a BTreeSet<BrokerId>,
    /// Topics that somebody else moves.
    pub paused: &'a dyn Fn(TopicId) -> bool,
    /// Some of what was planned before is under way.
    pub under_way: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Copies at once that one broker gives or gets, and all of them.
    pub of_broker: usize,
    pub in_all: usize,
    /// A target's disk is never planned to be fuller.
    pub full_percent: u64,
    /// Bytes, and bytes a second, that a broker may be off whatever the share.
    pub bytes_slack: u64,
    pub rate_slack: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { of_broker: 4, in_all: 64, full_percent: 85, bytes_slack: 64 << 20, rate_slack: 1 << 20 }
    }
}

/// Who is to hold a partition, the preferred leader first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub id: PartitionId,
    pub replicas: Vec<BrokerId>,
}

/// What to move next, the smallest first; nothing where all is well, or too little is known.
pub fn plan(world: &World<'_>, limits: &Limits, seed: u64) -> Vec<Move> {
    let Some(mut state) = State::of(world, limits, seed) else { return Vec::new() };
    let mut steps: Vec<Step> = Vec::new();
    while let Some(next) = goals::next(&mut state) {
        next.iter().for_each(|step| state.take(step));
        steps.extend(next);
    }
    steps.sort_by_key(|step| (state.weight(step), step.part));
    steps.iter().map(|step| state.told(step.part)).collect()
}
