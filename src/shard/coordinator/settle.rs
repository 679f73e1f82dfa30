//! Answers and commands that wait until what they rest on is committed: see [`super::settling`].

use std::rc::Rc;
use std::time::Duration;

use super::driver::{Driver, Slot};
use super::kinds::Kind;
use super::settling::Settling;
use crate::coordinator::Answer;
use crate::model::{Offset, PartitionId};
use crate::partition::Replica;
use crate::shard::Shard;

/// The longest, as Kafka's `offsets.commit.timeout.ms`.
const PATIENCE: Duration = Duration::from_secs(5);

impl Shard {
    /// Takes up what rests on the machine's log up to `end`, which is not committed yet.
    pub(super) fn settle<M: Kind>(
        &self,
        driver: &Driver<M>,
        replica: &Replica,
        end: Offset,
        (replies, commands): (Vec<Answer<M::Reply>>, Vec<M::Command>),
    ) {
        let due = self.deadlines.after(PATIENCE);
        if let Some(Slot::Active { settling, watch, .. }) = driver.slots.borrow_mut().get_mut(&replica.id) {
            settling.push_back(Settling { end, due, replies, commands });
            watch.set(replica, end);
        }
        self.deadlines.rouse();
    }

    pub(super) async fn run_settling<M: Kind>(self: Rc<Self>) {
        let ripe = M::driver(&self).ripe.clone();
        loop {
            let changed = ripe.changed.listen();
            let next = ripe.partitions.borrow_mut().pop();
            match next {
                Some(partition) => self.settle_ripe::<M>(partition),
                None => changed.await,
            }
        }
    }

    fn settle_ripe<M: Kind>(self: &Rc<Self>, partition: PartitionId) {
        let driver = M::driver(self);
        let Some(replica) = self.replica(partition) else { return };
        loop {
            let (entry, epoch) = {
                let mut slots = driver.slots.borrow_mut();
                let Some(Slot::Active { settling, watch, epoch, .. }) = slots.get_mut(&partition) else {
                    return;
                };
                watch.seen();
                let committed =
                    if replica.leads_in(*epoch) { replica.offsets().high_watermark() } else { return };
                match settling.pop_front_if(|entry| entry.end <= committed) {
                    Some(entry) => (entry, *epoch),
                    None => {
                        if let Some(first) = settling.front() {
                            watch.set(&replica, first.end);
                        }
                        return;
                    }
                }
            };
            entry.replies.into_iter().for_each(|answer| driver.deliver(answer));
            for command in entry.commands {
                M::perform(self, (partition, epoch), command);
            }
        }
    }
}
