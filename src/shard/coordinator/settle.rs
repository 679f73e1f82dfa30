//! What waits for the journal: answers and commands that rest on what a machine wrote.
//!
//! An answer that waits too long for the disk is told to be late; what it says happens all the same, and commands wait
//! as long as it takes.

use std::rc::Rc;
use std::time::Duration;

use super::{Driver, Get, Shard, Unavailable};
use crate::coordinator::{Answer, Machine};
use crate::log::Lsn;
use crate::model::PartitionId;
use crate::shard::deadline::Due;
use crate::shard::produce::Undurable;

/// The longest, as Kafka's `offsets.commit.timeout.ms`.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Settling<M: Machine> {
    lsn: Lsn,
    due: Due,
    partition: PartitionId,
    replies: Vec<Answer<M::Reply>>,
    commands: Vec<M::Command>,
}

impl<M: Machine> Driver<M> {
    pub(in crate::shard) fn is_settling(&self) -> bool {
        !self.settling.borrow().is_empty()
    }

    pub(in crate::shard) fn end_waits(&self, is_over: impl Fn(Due) -> bool) {
        for entry in self.settling.borrow_mut().iter_mut().filter(|entry| is_over(entry.due)) {
            for answer in entry.replies.drain(..) {
                if let Some(waiting) = self.waiting.borrow_mut().remove(&answer.token) {
                    waiting.answer.send(Err(Unavailable::Slow));
                }
            }
        }
    }
}

impl Shard {
    pub(super) fn settle<M: Machine>(
        &self,
        driver: &Driver<M>,
        lsn: Lsn,
        partition: PartitionId,
        replies: Vec<Answer<M::Reply>>,
        commands: Vec<M::Command>,
    ) {
        let due = self.deadlines.after(PATIENCE);
        driver.settling.borrow_mut().push_back(Settling { lsn, due, partition, replies, commands });
        driver.settling_changed.notify_all();
        self.deadlines.rouse();
    }

    pub(super) async fn run_settling<M: Machine>(self: Rc<Self>, get: Get<M>) {
        let driver = get(&self);
        loop {
            let changed = driver.settling_changed.listen();
            let Some(lsn) = driver.settling.borrow().front().map(|entry| entry.lsn) else {
                changed.await;
                continue;
            };
            let outcome = self.durable(lsn, Due::NEVER).await;
            let done = driver.settling.borrow_mut().pop_front();
            let Some(entry) = done else { continue };
            match outcome {
                Ok(()) => {
                    entry.replies.into_iter().for_each(|answer| driver.deliver(answer));
                    for command in entry.commands {
                        (driver.perform)(&self, entry.partition, command);
                    }
                }
                Err(Undurable::Failed(why)) => driver.fail(entry.partition, &why),
                Err(Undurable::TimedOut) => unreachable!("nothing is due never"),
            }
        }
    }
}
