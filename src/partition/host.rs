//! What the replicas of one shard share.

use std::cell::Cell;
use std::rc::Rc;

use super::waits::Waits;
use crate::model::{BrokerId, MonoMs};

/// `replica.lag.time.max.ms`, which nobody sets while there is one replica of everything.
const LAG_MAX_MS: i64 = 30_000;

pub struct Host {
    pub broker: BrokerId,
    pub waits: Rc<Waits>,
    pub lag_max_ms: i64,
    now: Cell<MonoMs>,
}

impl Host {
    pub fn new(broker: BrokerId) -> Rc<Self> {
        Rc::new(Self { broker, waits: Rc::default(), lag_max_ms: LAG_MAX_MS, now: Cell::new(MonoMs::ZERO) })
    }

    /// The time of the event that is being dealt with, or of one just before.
    pub fn now(&self) -> MonoMs {
        self.now.get()
    }

    pub fn set_now(&self, now: MonoMs) {
        self.now.set(now);
    }
}
