//! Events to machines, and what comes of them.

use std::rc::Rc;
use std::time::Duration;

use super::driver::{Answered, Slot, Unavailable, Waiting};
use super::kinds::Kind;
use crate::coordinator::{Effects, Ms, Record};
use crate::model::{LeaderEpoch, Offset, PartitionId, WallMs};
use crate::partition::Acks;
use crate::rt::{self, oneshot, race};
use crate::shard::Shard;
use crate::wire::records::{BatchBuilder, BatchMark};

/// How long a machine rests after an append or a read that failed: what is in the way does not pass at once.
pub(super) const REST: Duration = Duration::from_secs(1);

impl Shard {
    /// Hands a request to the machine of a partition of this shard. The machine has seen it when this returns.
    pub(in crate::shard) fn coordinate<M: Kind>(
        self: &Rc<Self>,
        partition: PartitionId,
        request: M::Request,
    ) -> impl Future<Output = Answered<M>> + use<M> {
        let driver = M::driver(self);
        let (sender, receiver) = oneshot::channel();
        let refusal = match driver.slots.borrow().get(&partition) {
            _ if !self.may_coordinate() => Some(Unavailable::NotHere),
            Some(slot) if !self.replica(partition).is_some_and(|replica| replica.leads_in(slot.epoch())) => {
                Some(Unavailable::NotHere)
            }
            Some(Slot::Active { .. }) if M::writes(&request) && self.is_short(partition) => {
                Some(Unavailable::TooFewReplicas)
            }
            Some(Slot::Active { .. }) => None,
            Some(Slot::Loading(_)) => Some(Unavailable::Loading),
            Some(Slot::Failed(_)) => Some(Unavailable::Failed),
            None => Some(Unavailable::NotHere),
        };
        match refusal {
            Some(why) => sender.send(Err(why)),
            None => {
                let token = driver.next_token.replace(driver.next_token.get() + 1);
                driver.waiting.borrow_mut().insert(token, Waiting { partition, answer: sender });
                self.step::<M>(partition, |machine, fx| machine.handle(token, request, fx));
            }
        }
        // A sender that is dropped without an answer can only be that of a request that a machine forgot.
        async move { receiver.await.unwrap_or(Err(Unavailable::Failed)) }
    }

    /// Whether fewer replicas are in sync than it takes for anything to be committed.
    fn is_short(&self, partition: PartitionId) -> bool {
        self.replica(partition).is_some_and(|replica| replica.check_acks(Acks::All).is_err())
    }

    /// Hands a request of this broker's own to the machine of a partition, once something can be committed, and if it is of this
    /// epoch then; nobody waits for the answer.
    pub(in crate::shard) async fn tell<M: Kind>(
        self: Rc<Self>,
        (partition, epoch): (PartitionId, LeaderEpoch),
        request: M::Request,
    ) {
        let leads = || self.replica(partition).is_some_and(|replica| replica.leads_in(epoch));
        while leads() && self.is_short(partition) {
            rt::sleep(REST).await;
        }
        let driver = M::driver(&self);
        let is_its = driver.slots.borrow().get(&partition).is_some_and(|slot| slot.epoch() == epoch);
        if is_its && leads() {
            let token = driver.next_token.replace(driver.next_token.get() + 1);
            self.step::<M>(partition, |machine, fx| machine.handle(token, request, fx));
        }
    }

    /// Gives a machine one event and does what it says.
    pub(super) fn step<M: Kind>(
        self: &Rc<Self>,
        partition: PartitionId,
        event: impl FnOnce(&mut M, &mut Effects<M>),
    ) {
        let driver = M::driver(self);
        let Some(replica) = self.replica(partition) else { return };
        let room = replica.config().max_message_bytes;
        let mut fx = Effects::new(self.now(), rt::wall(), replica.offsets().end(), room);
        {
            let mut slots = driver.slots.borrow_mut();
            let Some(Slot::Active { machine, .. }) = slots.get_mut(&partition) else { return };
            event(machine, &mut fx);
        }
        self.carry_out::<M>(partition, fx);
    }

    fn carry_out<M: Kind>(self: &Rc<Self>, partition: PartitionId, fx: Effects<M>) {
        let driver = M::driver(self);
        for (at, timer) in fx.timers {
            if driver.timers.borrow_mut().push(at, (partition, timer)) {
                driver.timers_changed.notify_all();
            }
        }
        let mark = fx.producer.map_or_else(BatchMark::default, BatchMark::of_transaction);
        let appended = self.append_records(partition, &fx.records, mark, WallMs(fx.wall));
        let written = match (appended, driver.slots.borrow_mut().get_mut(&partition)) {
            (Err(why), _) => Err(why),
            (Ok(end), Some(Slot::Active { written, epoch, .. })) => {
                *written = end.unwrap_or(*written);
                Ok((*written, *epoch))
            }
            (Ok(_), _) => return,
        };
        let (written, epoch) = match written {
            Ok(written) => written,
            Err(why) => return self.reload::<M>(partition, &why),
        };
        let Some(replica) = self.replica(partition) else { return };
        let waits = written > replica.offsets().high_watermark();
        let mut settled = Vec::new();
        for answer in fx.replies {
            match answer.settled && waits {
                true => settled.push(answer),
                false => driver.deliver(answer),
            }
        }
        match waits {
            true if !settled.is_empty() || !fx.commands.is_empty() => {
                self.settle(driver, &replica, written, (settled, fx.commands));
            }
            _ => fx.commands.into_iter().for_each(|command| M::perform(self, (partition, epoch), command)),
        }
    }

    /// Takes a machine that is ahead of its log out of service, and makes it anew from the log.
    fn reload<M: Kind>(self: &Rc<Self>, partition: PartitionId, why: &str) {
        M::driver(self).fail(partition, why);
        let shard = self.clone();
        rt::spawn(async move {
            rt::sleep(REST).await;
            let still = matches!(M::driver(&shard).slots.borrow().get(&partition), Some(Slot::Failed(_)));
            if still {
                shard.take_up::<M>(partition);
            }
        });
    }

    /// Something was appended to a machine's partition past it: tells the machine, whose replies rest on it from now on.
    pub(in crate::shard) fn step_after<M: Kind>(
        self: &Rc<Self>,
        partition: PartitionId,
        appended: Offset,
        event: impl FnOnce(&mut M, &mut Effects<M>),
    ) {
        if let Some(Slot::Active { written, .. }) = M::driver(self).slots.borrow_mut().get_mut(&partition) {
            *written = appended.max(*written);
        }
        self.step::<M>(partition, event);
    }

    /// Appends records in as few batches as the topic allows; returns the end of the last.
    fn append_records(
        &self,
        partition: PartitionId,
        records: &[Record],
        mark: BatchMark,
        now: WallMs,
    ) -> Result<Option<Offset>, String> {
        let Some(replica) = self.replica(partition) else { return Err("its partition is gone".into()) };
        let room = replica.config().max_message_bytes;
        let mut end = None;
        let mut rest = records;
        while !rest.is_empty() {
            let mut batch = BatchBuilder::new(now.0, mark);
            while let Some((record, after)) = rest.split_first() {
                let (key, value) = (Some(&record.key[..]), record.value.as_deref());
                if !batch.is_empty() && batch.len() + BatchBuilder::cost(key, value) > room {
                    break;
                }
                batch.push(key, value);
                rest = after;
            }
            let records = batch.finish();
            let appended = self.append_to(partition, |replica, store| {
                replica.check_acks(Acks::All)?;
                replica.append_internal(store, records, now)
            });
            end = Some(appended.map_err(|e| e.to_string())?.end);
        }
        Ok(end)
    }

    /// Starts a driver's own tasks.
    pub(in crate::shard) fn start_driver<M: Kind>(self: &Rc<Self>) {
        rt::spawn(self.clone().run_timers::<M>());
        rt::spawn(self.clone().run_settling::<M>());
    }

    async fn run_timers<M: Kind>(self: Rc<Self>) {
        let driver = M::driver(&self);
        loop {
            let changed = driver.timers_changed.listen();
            let next = driver.timers.borrow().next_at();
            match next.map(|at| at - self.now().0) {
                None => changed.await,
                Some(wait) if wait > 0 => {
                    // A millisecond more: the clock is cut to milliseconds.
                    race(changed, rt::sleep(Duration::from_millis(wait as u64 + 1))).await;
                }
                Some(_) => {
                    let due = driver.timers.borrow_mut().pop_due(self.now().0);
                    match due {
                        // What it decides could not be written.
                        Some((partition, timer)) if self.is_short(partition) => {
                            let later = self.now().0 + REST.as_millis() as Ms;
                            driver.timers.borrow_mut().push(later, (partition, timer));
                        }
                        Some((partition, timer)) => {
                            self.step::<M>(partition, |machine, fx| machine.fire(timer, fx));
                        }
                        None => {}
                    }
                    rt::yield_now().await;
                }
            }
        }
    }
}
