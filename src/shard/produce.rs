//! Appending on the owner shard: ordered at once, durable later.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use super::deadline::Due;
use super::inspect::{Inspected, Inspection};
use super::lanes::Place;
use super::message::{ProduceEntry, ProduceError, ProduceResult, Transactional, Wait};
use super::timing::Appending;
use crate::log::{Lsn, ShardLog};
use crate::model::PartitionId;
use crate::partition::{AppendError, Appended, Guard, Replica};
use crate::rt::{self, Ticks};

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

/// Why something that was appended is not known to be on disk.
#[derive(Clone)]
pub(super) enum Undurable {
    Failed(Arc<str>),
    TimedOut,
}

impl From<Undurable> for ProduceError {
    fn from(why: Undurable) -> Self {
        match why {
            Undurable::Failed(reason) => AppendError::JournalFailed(reason).into(),
            Undurable::TimedOut => Self::TimedOut,
        }
    }
}

pub(super) fn timed_out(entries: usize) -> Vec<ProduceResult> {
    (0..entries).map(|_| Err(ProduceError::TimedOut)).collect()
}

impl Shard {
    /// Appends to partitions of this shard, in the order of calls. The ordered stage is over when this returns, unless
    /// batches are looked into elsewhere or producers wait for memory, and then whoever comes later is behind; the future
    /// completes when everything is durable (or at once, if that is not waited for), and at the latest when it is due.
    /// What is in line then is not appended.
    pub(super) fn produce(
        self: &Rc<Self>,
        entries: Vec<ProduceEntry>,
        wait: bool,
        due: Due,
    ) -> impl Future<Output = Vec<ProduceResult>> + use<> {
        let began = Ticks::now();
        let now = rt::unix_ms();
        let inspections: Vec<_> = entries.into_iter().map(|entry| self.inspect(entry, now)).collect();
        let stage = self.append_or_hold(inspections, began);
        let shard = self.clone();
        async move {
            let (mut results, mut appending, appended) = match stage {
                Ok(appended) => appended,
                Err(held) => {
                    let count = held.inspections.len();
                    match shard.deadlines.by(due, shard.append_held(held)).await {
                        Some(appended) => appended,
                        None => return timed_out(count),
                    }
                }
            };
            let waits = wait && results.iter().flatten().any(|a| a.lsn.is_some());
            if waits {
                shard.make_durable(&mut results, due).await;
                shard.time_commit(&mut appending, appended);
            }
            // The fuller the disk, the later the answer.
            if let Some(delay) = shard.store.space().delay() {
                rt::sleep(delay).await;
            }
            shard.metrics.timing.appended(appending, waits);
            // Whoever awaited this takes it in the same poll.
            shard.metrics.timing.note_appending(appending);
            results
        }
    }

    /// Appends what may be appended at once; otherwise it has its places when this returns.
    fn append_or_hold(&self, inspections: Vec<Inspection>, began: Ticks) -> Result<Appends, Held> {
        let behind = |i: &Inspection| i.is_heavy() || !self.inspecting.is_free(i.partition());
        if inspections.iter().any(behind) {
            let line = self.inspecting.enter(inspections.iter().map(Inspection::partition).collect());
            return Err(Held { inspections, line: Some(line), intake: None, came: began });
        }
        let bytes = inspections.iter().map(Inspection::size).sum();
        if self.intake.is_free(()) && self.store.has_room(bytes) {
            let inspected = inspections.into_iter().map(|inspection| match inspection {
                Inspection::Done(inspected) => inspected,
                Inspection::Heavy { .. } => unreachable!("held above"),
            });
            return Ok(self.append_timed(inspected, began, 0));
        }
        let intake = Some(self.intake.enter(vec![()]));
        Err(Held { inspections, line: None, intake, came: began })
    }

    async fn append_held(self: &Rc<Self>, held: Held) -> Appends {
        let Held { inspections, line, mut intake, came } = held;
        let inspected = self.inspect_fully(inspections).await;
        if let Some(line) = &line {
            line.front().await;
        }
        let bytes = inspected.iter().map(Inspected::size).sum();
        if intake.is_none() && !(self.intake.is_free(()) && self.store.has_room(bytes)) {
            intake = Some(self.intake.enter(vec![()]));
        }
        if let Some(intake) = &intake {
            intake.front().await;
            self.store.room(bytes).await;
        }
        let now = Ticks::now();
        self.append_timed(inspected.into_iter(), now, now.since(came))
    }

    /// Appends, after so long a wait.
    fn append_timed(
        &self,
        inspected: impl Iterator<Item = Inspected>,
        began: Ticks,
        journal_wait_ns: u64,
    ) -> Appends {
        let now = rt::unix_ms();
        let results = inspected.map(|entry| self.append(entry, now)).collect();
        let now = Ticks::now();
        let append_ns = now.since(began);
        self.metrics.timing.note_append(append_ns, now);
        (results, Appending { append_ns, journal_wait_ns, ..Appending::default() }, now)
    }

    /// Splits the wait for the disk at the moment when the commit began. Waiting for room came before.
    fn time_commit(&self, appending: &mut Appending, appended: Ticks) {
        let Some((began, ended)) = self.store.journal().last_commit() else { return };
        appending.journal_wait_ns += began.since(appended);
        appending.commit_ns = ended.since(began.max(appended));
    }

    /// As [`Self::produce`], in the transaction that the request names, if any.
    pub fn produce_for(
        self: &Rc<Self>,
        transaction: Option<Transactional>,
        entries: Vec<ProduceEntry>,
        wait: Wait,
    ) -> Pin<Box<dyn Future<Output = Vec<ProduceResult>>>> {
        let due = self.deadlines.after(wait.longest);
        match transaction {
            None => Box::pin(self.produce(entries, wait.durable, due)),
            Some(transaction) => Box::pin(self.produce_in(transaction, entries, wait.durable, due)),
        }
    }

    fn append(&self, entry: Inspected, now: i64) -> ProduceResult {
        let sound = entry.batch?;
        let (bytes, records) = (sound.header().size(), sound.header().record_count);
        let waived = || (!self.live.borrow().verify_transactions).then_some(Guard::WAIVED);
        let guard = entry.guard.or_else(waived);
        let appended =
            self.append_to(entry.partition, |replica, store| replica.append(store, sound, now, guard))?;
        self.metrics.produced(records.max(0) as u64, bytes);
        Ok(appended)
    }

    /// Appends to a partition of this shard, and sees to it that the commit is followed.
    pub(super) fn append_to(
        &self,
        partition: PartitionId,
        append: impl FnOnce(&Replica, &ShardLog) -> Result<Appended, AppendError>,
    ) -> ProduceResult {
        let replica = self.replica(partition).ok_or(ProduceError::UnknownPartition)?;
        let was_durable = !replica.is_undurable();
        let appended = append(&replica, &self.store)?;
        if let Some(lsn) = appended.lsn {
            self.durable.expect(lsn);
        }
        if was_durable && replica.is_undurable() {
            self.undurable.borrow_mut().push(replica);
        }
        self.appended.notify_all();
        Ok(appended)
    }

    /// Waits for the commit that covers all results; if the journal fails or it is due before, they become errors.
    pub(super) async fn make_durable(&self, results: &mut [ProduceResult], due: Due) {
        let lsns = || results.iter().flatten().filter_map(|appended| appended.lsn);
        // Entries come in order; what was promised does not.
        let last = lsns().filter(|lsn| !lsn.is_promised()).max();
        let mut outcome = Ok(());
        for lsn in lsns().filter(|lsn| lsn.is_promised()).chain(last) {
            outcome = outcome.and(self.durable(lsn, due).await);
        }
        let Err(why) = outcome else { return };
        for result in results {
            if let Ok(Appended { lsn: Some(lsn), .. }) = result
                && !self.durable.has(*lsn)
            {
                *result = Err(why.clone().into());
            }
        }
    }

    pub(super) async fn durable(&self, lsn: Lsn, due: Due) -> Result<(), Undurable> {
        let waits = !self.durable.has(lsn) && self.store.journal().failed().is_none();
        if waits && !self.deadlines.is_over(due) {
            self.deadlines.rouse();
            self.durable.wait(lsn, due).await;
        }
        match self.store.journal().failed() {
            _ if self.durable.has(lsn) => Ok(()),
            Some(reason) => Err(Undurable::Failed(reason)),
            None => Err(Undurable::TimedOut),
        }
    }

    /// Follows the journal: with each commit the high watermarks advance, then producers are answered, so that who
    /// has an ack can read what was acknowledged.
    pub(super) async fn follow_commits(self: Rc<Self>) {
        let journal = self.store.journal();
        loop {
            rt::stall::running("commits");
            let (appended, advanced) = (self.appended.listen(), journal.advanced().listen());
            self.undurable.borrow_mut().retain(|replica| {
                replica.on_durable(|lsn| journal.is_durable(lsn));
                replica.is_undurable()
            });
            self.durable.advance(journal.durable_entries(), |lsn| journal.is_durable(lsn));
            if self.undurable.borrow().is_empty() {
                appended.await;
                continue;
            }
            if let Some(failed) = journal.failed() {
                self.durable.give_up();
                return log::error!("shard {}: {failed}; nothing is acknowledged any more", self.index);
            }
            advanced.await;
        }
    }
}
