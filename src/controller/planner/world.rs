//! What a plan rests on, and what it is.

use std::collections::BTreeSet;

use crate::controller::loads::Loads;
use crate::metadata::Image;
use crate::model::{BrokerId, PartitionId, TopicId};

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
