//! What this broker tells the controller of its loads: with its heartbeats, a part at a time, and all of it to every new one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Control;
use crate::controller::loads::{BrokerLoad, Disk, PartitionLoad};
use crate::rt;
use crate::shard::message::Loads;

/// How often it is looked what has changed.
const LOOK: Duration = Duration::from_secs(10);
/// Partitions of one heartbeat, and those that wait for one at most before it is looked again.
const MOST: usize = 2_000;

#[derive(Default)]
pub(super) struct Reporting {
    waiting: RefCell<Vec<PartitionLoad>>,
    disk: Cell<Option<Disk>>,
    /// All that there was is told once nothing waits.
    whole: Cell<bool>,
    /// The epoch of the controller that is told.
    epoch: Cell<i32>,
    /// Another controller leads.
    anew: Notify,
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

impl Control {
    /// Looks what this broker's loads are, for as long as the process lives.
    pub(crate) async fn keep_loads(self: Rc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.reporting.anew.notified() => {}
            }
            // A broker that is alone has nowhere to move anything.
            if self.serving.get()
                && self.image().brokers().len() > 1
                && self.reporting.waiting.borrow().is_empty()
            {
                self.look_at_loads().await;
            }
        }
    }

    async fn look_at_loads(&self) {
        let reporting = &self.reporting;
        let (epoch, mut again) = (reporting.epoch(), !reporting.whole.get());
        let home = self.home.clone();
        let Ok(Ok(space)) = tokio::task::spawn_blocking(move || rt::fs::space(home)).await else { return };
        loop {
            let told = self.broadcast(|| Loads { again }).await;
            let whole = told.iter().all(|told| told.1);
            if reporting.epoch() != epoch {
                // It changed while the shards were asked: they have told somebody else.
                return reporting.anew.notify_one();
            }
            reporting.waiting.borrow_mut().extend(told.into_iter().flat_map(|told| told.0));
            reporting.disk.set(Some(Disk { total: space.total, free: space.usable }));
            if whole {
                return reporting.whole.set(true);
            }
            again = false;
        }
    }
}
