//! What a shard does on its own: ends waits that are due, makes checkpoints, forgets old producers.

use std::rc::Rc;
use std::time::Duration;

use crate::model::Offset;

use super::Shard;
use crate::rt;

/// How often producers are looked through for those that have expired.
const PRODUCER_CHECK: Duration = Duration::from_secs(600);

impl Shard {
    /// Ends waits that are due.
    pub(super) async fn sweep_deadlines(self: Rc<Self>) {
        let (waits, coordinators) = (self.partitions.waits(), &self.coordinators);
        loop {
            let nobody = || !waits.is_waited_for() && !coordinators.is_settling();
            let is_over = self.deadlines.sweep(nobody).await;
            waits.end_due(is_over);
            coordinators.end_waits(is_over);
        }
    }

    pub(super) async fn maintain(self: Rc<Self>) {
        let store = self.store().clone();
        let (shard, same) = (self.clone(), self.clone());
        let committed = move |id| same.replica(id).map_or(Offset::ZERO, |replica| replica.may_go());
        rt::spawn(async move { store.maintain(move |id| shard.partitions.owner_state(id), committed).await });
        loop {
            rt::sleep(PRODUCER_CHECK).await;
            let before = rt::wall().before(self.live().producer_id_expiration_ms);
            for replica in self.partitions.all() {
                replica.expire_producers(before);
                rt::yield_now().await;
            }
        }
    }
}
