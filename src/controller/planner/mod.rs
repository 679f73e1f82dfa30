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
mod score;
mod state;
#[cfg(test)]
mod tests;
mod world;

use state::{State, Step};
pub use world::{Limits, Move, World};

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
