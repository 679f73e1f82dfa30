//! Telling the other shards of this broker what its clients used of their quotas.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::message::QuotaUse;
use crate::rt;

pub(super) const SHARE_EVERY: Duration = Duration::from_millis(100);

impl Shard {
    /// Tells the other shards what was counted here, while anything is.
    pub(super) async fn share_quota_use(self: Rc<Self>) {
        loop {
            if let Some(counted) = self.quotas.counted() {
                counted.await;
                continue;
            }
            rt::sleep(SHARE_EVERY).await;
            let used = self.quotas.take_untold();
            self.tell_others(|| QuotaUse(used.clone()));
        }
    }
}
