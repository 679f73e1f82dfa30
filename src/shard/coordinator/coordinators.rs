//! The coordinators of a shard.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::driver::Driver;
use crate::coordinator::group::Groups;
use crate::coordinator::txn::Transactions;
use crate::partition::Due;
use crate::rt;

/// The drivers of a shard, one for each kind of machine.
#[derive(Default)]
pub(in crate::shard) struct Coordinators {
    groups: Driver<Groups>,
    transactions: Driver<Transactions>,
    /// Until when this broker may take itself for who coordinates (C7); `None` before it was told.
    until: Cell<Option<Instant>>,
}

impl Coordinators {
    /// The controller has answered this broker: until then nobody else is told to coordinate what it does.
    pub(in crate::shard) fn extend(&self, until: Instant) {
        self.until.set(Some(until));
    }

    /// For how long this broker may not take itself for who coordinates what it leads, if it may not (C7).
    pub(in crate::shard) fn silent_for(&self) -> Option<Duration> {
        rt::now().checked_duration_since(self.until.get()?)
    }

    pub(in crate::shard) fn groups(&self) -> &Driver<Groups> {
        &self.groups
    }

    pub(in crate::shard) fn transactions(&self) -> &Driver<Transactions> {
        &self.transactions
    }

    /// [`Driver::counts`] of groups' and of transactions' coordinators.
    pub(in crate::shard) fn counts(&self) -> [[usize; 3]; 2] {
        [self.groups.counts(), self.transactions.counts()]
    }

    pub(in crate::shard) fn is_settling(&self) -> bool {
        self.groups.is_settling() || self.transactions.is_settling()
    }

    pub(in crate::shard) fn end_waits(&self, is_over: impl Fn(Due) -> bool) {
        self.groups.end_waits(&is_over);
        self.transactions.end_waits(&is_over);
    }

    /// Nothing will be committed any more.
    pub(in crate::shard) fn fail_settling(&self, why: &str) {
        self.groups.fail_settling(why);
        self.transactions.fail_settling(why);
    }
}
