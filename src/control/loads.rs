//! This broker's loads, looked at now and then.

use std::rc::Rc;
use std::time::Duration;

use super::Control;
use crate::controller::loads::Disk;
use crate::rt;
use crate::shard::message::Loads;

/// How often it is looked what has changed.
const LOOK: Duration = Duration::from_secs(10);

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
