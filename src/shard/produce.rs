//! Appending on the owner shard: ordered at once, durable later.

use std::pin::Pin;
use std::rc::Rc;

use super::Shard;
use super::deadline::Due;
use super::inspect::{Inspected, Inspection};
use super::message::{self, ProduceEntry, ProduceError, ProduceResult, Transactional};
use super::timing::Appending;
use crate::log::ShardLog;
use crate::model::{PartitionId, WallMs};
use crate::partition::{Acks, AppendError, Appended, Failure, Guard, Replica, Wait};
use crate::rt::{self, Place, Ticks};

/// What became of a request's entries, what that took, and when it was done.
type Appends = (Vec<ProduceResult>, Appending, Ticks);

/// Entries whose turn has not come.
struct Held {
    inspections: Vec<Inspection>,
    /// Behind earlier ones of their partitions, if any of these is looked into.
    line: Option<Place<PartitionId>>,
    /// Behind others who wait for memory.
    intake: Option<Place<()>>,
    came: Ticks,
}

/// What a request waits for.
pub(super) struct Waiter {
    pub acks: Acks,
    pub wait: Wait,
    pub due: Due,
}

pub(super) fn timed_out(entries: usize) -> Vec<ProduceResult> {
    (0..entries).map(|_| Err(ProduceError::TimedOut)).collect()
}

impl Shard {
    /// Appends to partitions of this shard, in the order of calls. The ordered stage is over when this returns, unless
    /// batches are looked into elsewhere or producers wait for memory, and then whoever comes later is behind; the future
    /// completes when everything counts as much as `acks` asks for, and at the latest when it is due. What is in line then
    /// is not appended.
    pub(super) fn produce(
        self: &Rc<Self>,
        entries: Vec<ProduceEntry>,
        acks: Acks,
        due: Due,
    ) -> impl Future<Output = Vec<ProduceResult>> + use<> {
        let began = Ticks::now();
        let now = rt::wall();
        let inspections: Vec<_> = entries.into_iter().map(|entry| self.inspect(entry, now)).collect();
        let waiter = Waiter { acks, wait: self.partitions.waits().begin(due), due };
        let stage = self.append_or_hold(inspections, began, &waiter);
        let shard = self.clone();
        async move {
            let (mut results, mut appending, appended) = match stage {
                Ok(appended) => appended,
                Err(held) => {
                    let count = held.inspections.len();
                    match shard.deadlines.by(due, shard.append_held(held, &waiter)).await {
                        Some(appended) => appended,
                        None => return timed_out(count),
                    }
                }
            };
            let waits = waiter.wait.is_open();
            shard.acknowledged(&waiter, &mut results).await;
            if waits {
                shard.time_commit(&mut appending, appended);
            }
            // The fuller the disk, the later the answer.
            if let Some(delay) = shard.store().space().delay() {
                rt::sleep(delay).await;
            }
            shard.metrics.timing.appended(appending, waits);
            // Whoever awaited this takes it in the same poll.
            shard.metrics.timing.note_appending(appending);
            results
        }
    }

    /// Appends what may be appended at once; otherwise it has its places when this returns.
    fn append_or_hold(
        &self,
        inspections: Vec<Inspection>,
        began: Ticks,
        waiter: &Waiter,
    ) -> Result<Appends, Held> {
        let behind = |i: &Inspection| i.is_heavy() || !self.intake.partitions.is_free(i.partition());
        if inspections.iter().any(behind) {
            let line = self.intake.partitions.enter(inspections.iter().map(Inspection::partition).collect());
            return Err(Held { inspections, line: Some(line), intake: None, came: began });
        }
        let bytes = inspections.iter().map(Inspection::size).sum();
        if self.intake.memory.is_free(()) && self.store().has_room(bytes) {
            let inspected = inspections.into_iter().map(|inspection| match inspection {
                Inspection::Done(inspected) => inspected,
                Inspection::Heavy { .. } => unreachable!("held above"),
            });
            return Ok(self.append_timed(inspected, waiter, (began, 0)));
        }
        let intake = Some(self.intake.memory.enter_one());
        Err(Held { inspections, line: None, intake, came: began })
    }

    async fn append_held(self: &Rc<Self>, held: Held, waiter: &Waiter) -> Appends {
        let Held { inspections, line, mut intake, came } = held;
        let inspected = self.inspect_fully(inspections).await;
        if let Some(line) = &line {
            line.front().await;
        }
        let bytes = inspected.iter().map(Inspected::size).sum();
        if intake.is_none() && !(self.intake.memory.is_free(()) && self.store().has_room(bytes)) {
            intake = Some(self.intake.memory.enter_one());
        }
        if let Some(intake) = &intake {
            intake.front().await;
            self.store().room(bytes).await;
        }
        let now = Ticks::now();
        self.append_timed(inspected.into_iter(), waiter, (now, now.since(came)))
    }

    /// Appends, after so long a wait.
    fn append_timed(
        &self,
        inspected: impl Iterator<Item = Inspected>,
        waiter: &Waiter,
        (began, journal_wait_ns): (Ticks, u64),
    ) -> Appends {
        let now = rt::wall();
        let each = inspected.enumerate();
        let results = each.map(|(nth, entry)| self.append(entry, now, (waiter, nth))).collect();
        let now = Ticks::now();
        let append_ns = now.since(began);
        self.metrics.timing.note_append(append_ns, now);
        (results, Appending { append_ns, journal_wait_ns, ..Appending::default() }, now)
    }

    /// Splits the wait for the disk at the moment when the commit began. Waiting for room came before.
    fn time_commit(&self, appending: &mut Appending, appended: Ticks) {
        let Some((began, ended)) = self.store().journal().last_commit() else { return };
        appending.journal_wait_ns += began.since(appended);
        appending.commit_ns = ended.since(began.max(appended));
    }

    /// As [`Self::produce`], in the transaction that the request names, if any.
    pub fn produce_for(
        self: &Rc<Self>,
        transaction: Option<Transactional>,
        entries: Vec<ProduceEntry>,
        wait: message::Wait,
    ) -> Pin<Box<dyn Future<Output = Vec<ProduceResult>>>> {
        let due = self.deadlines.after(wait.longest);
        match transaction {
            None => Box::pin(self.produce(entries, wait.acks, due)),
            Some(transaction) => Box::pin(self.produce_in(transaction, entries, wait.acks, due)),
        }
    }

    fn append(&self, entry: Inspected, now: WallMs, (waiter, nth): (&Waiter, usize)) -> ProduceResult {
        let sound = entry.batch?;
        let (bytes, records) = (sound.header().size(), sound.header().record_count);
        let waived = || (!self.applied.verifies_transactions()).then_some(Guard::WAIVED);
        let guard = entry.guard.or_else(waived);
        let appended = self.append_to(entry.partition, |replica, store| {
            let taken = replica.check_acks(waiter.acks);
            let appended = taken.and_then(|()| replica.append(store, sound, now, guard));
            let appended = appended.map_err(|error| replica.refuse(error, self.now()))?;
            replica.acknowledge(&appended, waiter.acks, waiter.wait.ticket(nth));
            Ok(appended)
        })?;
        self.metrics.produced(records.max(0) as u64, bytes);
        Ok(appended)
    }

    /// Appends to a partition of this shard, and sees to it that the commit is followed.
    pub(super) fn append_to(
        &self,
        partition: PartitionId,
        append: impl FnOnce(&Replica, &ShardLog) -> Result<Appended, AppendError>,
    ) -> ProduceResult {
        let replica = self.replica(partition).ok_or_else(|| match self.applied.knows(partition) {
            true => ProduceError::NotLeader,
            false => ProduceError::UnknownPartition,
        })?;
        Ok(self.partitions.append(replica, append)?)
    }

    /// Waits until all of it counts; what does not becomes an error.
    pub(super) async fn acknowledged(&self, waiter: &Waiter, results: &mut [ProduceResult]) {
        if waiter.wait.is_open() && !self.deadlines.is_over(waiter.due) {
            self.deadlines.rouse();
            (&waiter.wait).await;
        }
        waiter.wait.failures(|nth, why| results[nth] = Err(self.unacknowledged(why)));
    }

    fn unacknowledged(&self, why: Failure) -> ProduceError {
        match (why, self.store().journal().failed()) {
            (Failure::Deposed, _) => ProduceError::NotLeader,
            (Failure::Gone, _) => ProduceError::UnknownPartition,
            (Failure::TooFewReplicas, _) => ProduceError::TooFewReplicas,
            (Failure::Unsettled, Some(reason)) => AppendError::JournalFailed(reason).into(),
            (Failure::Unsettled, None) => ProduceError::TimedOut,
        }
    }

    /// Follows the journal: with each commit it is told to the replicas that wait for one, whose high watermarks advance
    /// and who then answer producers, so that who has an ack can read what was acknowledged.
    pub(super) async fn follow_commits(self: Rc<Self>) {
        let journal = self.store().journal();
        loop {
            rt::stall::running("commits");
            let (appended, advanced) = (self.partitions.appended(), journal.advanced().listen());
            if !self.partitions.on_durable(self.now()) {
                appended.await;
                continue;
            }
            if let Some(failed) = journal.failed() {
                self.partitions.waits().close();
                self.coordinators.fail_settling(&failed);
                return log::error!("shard {}: {failed}; nothing is acknowledged any more", self.me.shard);
            }
            advanced.await;
        }
    }
}
