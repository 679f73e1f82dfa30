//! What this broker has still to tell the controller of its loads: a part with each heartbeat, and all of it to every new one.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;

use crate::controller::loads::{BrokerLoad, Disk, PartitionLoad};

/// Partitions of one heartbeat.
const MOST: usize = 2_000;

#[derive(Default)]
pub(super) struct Reporting {
    pub waiting: RefCell<Vec<PartitionLoad>>,
    pub disk: Cell<Option<Disk>>,
    /// All that there was is told once nothing waits.
    pub whole: Cell<bool>,
    /// The epoch of the controller that is told.
    epoch: Cell<i32>,
    /// Another controller leads.
    pub anew: Notify,
}

impl Reporting {
    /// What the next heartbeat tells: nothing where there is nothing new.
    pub fn next(&self) -> Option<BrokerLoad> {
        let disk = self.disk.get()?;
        let waiting = self.waiting.borrow();
        let partitions: Vec<_> = waiting.iter().take(MOST).copied().collect();
        let whole = self.whole.get() && partitions.len() == waiting.len();
        Some(BrokerLoad { disk, partitions, whole })
    }

    /// The controller that leads in this epoch has heard it.
    pub fn heard(&self, epoch: i32, load: &BrokerLoad) {
        if epoch == self.epoch.get() {
            let told = load.partitions.len();
            let mut waiting = self.waiting.borrow_mut();
            let told = told.min(waiting.len());
            waiting.drain(..told);
            if load.whole {
                self.disk.set(None);
            }
        }
    }

    pub fn epoch(&self) -> i32 {
        self.epoch.get()
    }

    /// Somebody leads who has heard nothing.
    pub fn turn(&self, epoch: i32) {
        if self.epoch.replace(epoch) != epoch {
            self.begin();
            self.anew.notify_one();
        }
    }

    fn begin(&self) {
        self.waiting.borrow_mut().clear();
        self.disk.set(None);
        self.whole.set(false);
    }
}
