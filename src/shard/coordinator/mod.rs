//! The driver of coordinators: one [`Machine`] for each partition of its internal topic that is led here, for one leader epoch.
//!
//! A machine is loaded by replaying its partition's log when the partition is first seen; requests meanwhile are
//! told so. Afterwards events reach it one at a time. What it writes is appended at once, in order, through the
//! partition's replica; what rests on it (settled replies, commands) waits in the machine's queue until it is committed.
//! Timers of all machines are one heap with one sleeping task.
//!
//! A machine whose append failed knows more than its log does: it is loaded again after a pause. One whose log cannot be
//! read serves nothing: a restart decides.

mod follow;
mod kinds;
mod load;
mod requests;
mod settle;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use crate::coordinator::{Answer, Effects, Machine, Ms, Record, TimerHeap, Token};
use crate::model::{LeaderEpoch, Offset, PartitionId, WallMs};
use crate::partition::Acks;
use crate::rt::{self, Notify, oneshot, race};
use crate::wire::records::{BatchBuilder, BatchMark};
pub(in crate::shard) use kinds::Coordinators;
use settle::{Ripe, Settling, Watch};

/// How long a machine rests after an append or a read that failed: what is in the way does not pass at once.
const REST: Duration = Duration::from_secs(1);

/// Why a coordinator does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the coordinator is being loaded")]
    Loading,
    #[error("the coordinator is not here")]
    NotHere,
    #[error("the coordinator has failed")]
    Failed,
    /// Nothing was done.
    #[error("fewer replicas are in sync than what it writes needs to be committed")]
    TooFewReplicas,
    /// What was done is done, and not on disk yet.
    #[error("the coordinator's answer is not on disk in time")]
    Slow,
}

pub type Answered<M> = Result<<M as Machine>::Reply, Unavailable>;

enum Slot<M: Machine> {
    /// In this leader epoch of its partition, as long as which it serves.
    Loading(LeaderEpoch),
    Active {
        machine: M,
        epoch: LeaderEpoch,
        /// The end of the last thing it wrote.
        written: Offset,
        settling: VecDeque<Settling<M>>,
        watch: Rc<Watch>,
    },
    Failed(LeaderEpoch),
}

impl<M: Machine> Slot<M> {
    fn epoch(&self) -> LeaderEpoch {
        match self {
            Self::Loading(epoch) | Self::Failed(epoch) | Self::Active { epoch, .. } => *epoch,
        }
    }

    /// Its machine goes.
    fn end(&self) {
        if let Self::Active { watch, .. } = self {
            watch.end();
        }
    }
}

struct Waiting<R> {
    partition: PartitionId,
    answer: oneshot::Sender<Result<R, Unavailable>>,
}

/// Carries out what machines of one kind want done outside of their partitions, each for the leader epoch that it is of.
pub type Perform<M> = fn(&Rc<Shard>, (PartitionId, LeaderEpoch), <M as Machine>::Command);
/// A machine has gone: what it wanted is not its any more.
pub type Left = fn(&Shard, PartitionId);

/// The machines of one kind on this shard.
pub struct Driver<M: Machine> {
    new: Box<dyn Fn(&Shard) -> M>,
    perform: Perform<M>,
    left: Left,
    /// By partition, so that what goes over all of them does so in order.
    slots: RefCell<BTreeMap<PartitionId, Slot<M>>>,
    waiting: RefCell<BTreeMap<Token, Waiting<M::Reply>>>,
    next_token: Cell<Token>,
    timers: RefCell<TimerHeap<(PartitionId, M::Timer)>>,
    timers_changed: Notify,
    ripe: Ripe,
}

/// Finds a shard's driver of one kind.
pub type Get<M> = fn(&Shard) -> &Driver<M>;

impl<M: Machine> Driver<M> {
    pub fn new(new: impl Fn(&Shard) -> M + 'static, perform: Perform<M>, left: Left) -> Self {
        Self {
            new: Box::new(new),
            perform,
            left,
            slots: RefCell::default(),
            waiting: RefCell::default(),
            next_token: Cell::new(0),
            timers: RefCell::default(),
            timers_changed: Notify::new(),
            ripe: Ripe::default(),
        }
    }

    /// Machines of this shard, by state: loading, serving, failed.
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for slot in self.slots.borrow().values() {
            counts[match slot {
                Slot::Loading(_) => 0,
                Slot::Active { .. } => 1,
                Slot::Failed(_) => 2,
            }] += 1;
        }
        counts
    }

    /// Looks at every machine that serves; fails while one is being loaded.
    pub fn each<T>(&self, mut look: impl FnMut(&M) -> T) -> Result<Vec<T>, Unavailable> {
        let mut seen = Vec::new();
        for slot in self.slots.borrow().values() {
            match slot {
                Slot::Active { machine, .. } => seen.push(look(machine)),
                Slot::Loading(_) => return Err(Unavailable::Loading),
                Slot::Failed(_) => {}
            }
        }
        Ok(seen)
    }

    fn fail(&self, partition: PartitionId, why: &str) {
        log::error!("coordinator {} {partition} stops serving: {why}", M::TOPIC);
        if let Some(slot) = self.slots.borrow_mut().get_mut(&partition) {
            slot.end();
            *slot = Slot::Failed(slot.epoch());
        }
        self.turn_away(partition, Unavailable::Failed);
    }

    /// Answers everybody who waits for a partition's machine.
    fn turn_away(&self, partition: PartitionId, why: Unavailable) {
        let gone: Vec<_> =
            self.waiting.borrow_mut().extract_if(.., |_, waiting| waiting.partition == partition).collect();
        for (_, waiting) in gone {
            waiting.answer.send(Err(why));
        }
    }

    fn deliver(&self, answer: Answer<M::Reply>) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&answer.token) {
            waiting.answer.send(Ok(answer.reply));
        }
    }
}

impl Shard {
    /// Hands a request to the machine of a partition of this shard. The machine has seen it when this returns.
    pub fn coordinate<M: Machine>(
        self: &Rc<Self>,
        get: Get<M>,
        partition: PartitionId,
        request: M::Request,
    ) -> impl Future<Output = Answered<M>> + use<M> {
        let driver = get(self);
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
                self.step(get, partition, |machine, fx| machine.handle(token, request, fx));
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
    pub(super) async fn tell<M: Machine>(
        self: Rc<Self>,
        get: Get<M>,
        (partition, epoch): (PartitionId, LeaderEpoch),
        request: M::Request,
    ) {
        let leads = || self.replica(partition).is_some_and(|replica| replica.leads_in(epoch));
        while leads() && self.is_short(partition) {
            rt::sleep(REST).await;
        }
        let driver = get(&self);
        let is_its = driver.slots.borrow().get(&partition).is_some_and(|slot| slot.epoch() == epoch);
        if is_its && leads() {
            let token = driver.next_token.replace(driver.next_token.get() + 1);
            self.step(get, partition, |machine, fx| machine.handle(token, request, fx));
        }
    }

    /// Gives a machine one event and does what it says.
    pub(super) fn step<M: Machine>(
        self: &Rc<Self>,
        get: Get<M>,
        partition: PartitionId,
        event: impl FnOnce(&mut M, &mut Effects<M>),
    ) {
        let driver = get(self);
        let Some(replica) = self.replica(partition) else { return };
        let room = replica.config().max_message_bytes;
        let mut fx = Effects::new(self.now(), rt::wall(), replica.offsets().end(), room);
        {
            let mut slots = driver.slots.borrow_mut();
            let Some(Slot::Active { machine, .. }) = slots.get_mut(&partition) else { return };
            event(machine, &mut fx);
        }
        self.carry_out(get, partition, fx);
    }

    fn carry_out<M: Machine>(self: &Rc<Self>, get: Get<M>, partition: PartitionId, fx: Effects<M>) {
        let driver = get(self);
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
            Err(why) => return self.reload(get, partition, &why),
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
            _ => fx
                .commands
                .into_iter()
                .for_each(|command| (driver.perform)(self, (partition, epoch), command)),
        }
    }

    /// Takes a machine that is ahead of its log out of service, and makes it anew from the log.
    fn reload<M: Machine>(self: &Rc<Self>, get: Get<M>, partition: PartitionId, why: &str) {
        get(self).fail(partition, why);
        let shard = self.clone();
        rt::spawn(async move {
            rt::sleep(REST).await;
            let still = matches!(get(&shard).slots.borrow().get(&partition), Some(Slot::Failed(_)));
            if still {
                shard.take_up(get, partition);
            }
        });
    }

    /// Something was appended to a machine's partition past it: tells the machine, whose replies rest on it from now on.
    pub(super) fn step_after<M: Machine>(
        self: &Rc<Self>,
        get: Get<M>,
        partition: PartitionId,
        appended: Offset,
        event: impl FnOnce(&mut M, &mut Effects<M>),
    ) {
        if let Some(Slot::Active { written, .. }) = get(self).slots.borrow_mut().get_mut(&partition) {
            *written = appended.max(*written);
        }
        self.step(get, partition, event);
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
    pub(super) fn start_driver<M: Machine>(self: &Rc<Self>, get: Get<M>) {
        rt::spawn(self.clone().run_timers(get));
        rt::spawn(self.clone().run_settling(get));
    }

    async fn run_timers<M: Machine>(self: Rc<Self>, get: Get<M>) {
        let driver = get(&self);
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
                            self.step(get, partition, |machine, fx| machine.fire(timer, fx));
                        }
                        None => {}
                    }
                    rt::yield_now().await;
                }
            }
        }
    }
}
