//! What a shard does on its own: checkpoints, forgetting old producers.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use crate::log::LogError;
use crate::rt;

/// How often producers are looked through for those that have expired.
const PRODUCER_CHECK: Duration = Duration::from_secs(600);

impl Shard {
    pub(super) async fn maintain(self: Rc<Self>) {
        let store = self.store.clone();
        let (shard, same) = (self.clone(), self.clone());
        let committed = move |id| same.replica(id).map_or(i64::MIN, |replica| replica.high_watermark());
        rt::spawn(async move { store.maintain(move |id| shard.owner_state(id), committed).await });
        loop {
            rt::sleep(PRODUCER_CHECK).await;
            let before = rt::unix_ms() - self.live().producer_id_expiration_ms;
            let replicas: Vec<_> = self.replicas.borrow().values().cloned().collect();
            for replica in replicas {
                replica.expire_producers(before);
                rt::yield_now().await;
            }
        }
    }

    pub(super) async fn checkpoint(&self) -> Result<(), LogError> {
        self.store.checkpoint(|id| self.owner_state(id)).await
    }
}
