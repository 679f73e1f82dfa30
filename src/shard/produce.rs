//! Appending on the owner shard: ordered at once, durable later.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Shard;
use super::message::{ProduceEntry, ProduceError, ProduceResult, Transactional};
use super::timing::Appending;
use crate::log::{Lsn, ShardLog};
use crate::model::PartitionId;
use crate::partition::{AppendError, Appended, Replica};
use crate::rt::{self, Ticks};
use crate::wire::batch::BatchHeader;

/// Producers that wait for memory, in the order in which they came.
#[derive(Default)]
pub(super) struct Intake {
    queue: RefCell<VecDeque<(u64, Option<Waker>)>>,
    next: Cell<u64>,
}

struct Ticket {
    shard: Rc<Shard>,
    number: u64,
}

impl Intake {
    fn is_open(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    fn enter(&self) -> u64 {
        let number = self.next.replace(self.next.get() + 1);
        self.queue.borrow_mut().push_back((number, None));
        number
    }
}

impl Ticket {
    async fn turn(&self) {
        std::future::poll_fn(|cx| {
            let mut queue = self.shard.intake.queue.borrow_mut();
            let Some(place) = queue.iter().position(|(number, _)| *number == self.number) else {
                return Poll::Ready(());
            };
            if place == 0 {
                return Poll::Ready(());
            }
            queue[place].1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut queue = self.shard.intake.queue.borrow_mut();
        queue.retain(|(number, _)| *number != self.number);
        if let Some((_, Some(waker))) = queue.front() {
            waker.wake_by_ref();
        }
    }
}

impl Shard {
    /// Appends to partitions of this shard, in the order of calls. The ordered stage is over when this returns, unless
    /// producers wait for memory; the future completes when everything is durable (or at once without `wait`).
    pub fn produce(
        self: &Rc<Self>,
        entries: Vec<ProduceEntry>,
        wait: bool,
    ) -> impl Future<Output = Vec<ProduceResult>> + use<> {
        let bytes = entries.iter().map(|e| e.records.len()).sum();
        let shard = self.clone();
        let stage = if self.intake.is_open() && self.store.has_room(bytes) {
            Ok(self.append_timed(entries, 0))
        } else {
            Err((Ticket { shard: self.clone(), number: self.intake.enter() }, entries))
        };
        async move {
            let (mut results, mut appending, appended) = match stage {
                Ok(appended) => appended,
                Err((ticket, entries)) => {
                    let came = Ticks::now();
                    ticket.turn().await;
                    shard.store.room(bytes).await;
                    shard.append_timed(entries, Ticks::now().since(came))
                }
            };
            let waits = wait && results.iter().flatten().any(|a| a.lsn.is_some());
            if waits {
                shard.make_durable(&mut results).await;
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

    /// Appends, after so long a wait for room.
    fn append_timed(
        &self,
        entries: Vec<ProduceEntry>,
        journal_wait_ns: u64,
    ) -> (Vec<ProduceResult>, Appending, Ticks) {
        let began = Ticks::now();
        let results = self.append_all(entries);
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
        wait: bool,
    ) -> Pin<Box<dyn Future<Output = Vec<ProduceResult>>>> {
        match transaction {
            None => Box::pin(self.produce(entries, wait)),
            Some(transaction) => Box::pin(self.produce_in(transaction, entries, wait)),
        }
    }

    fn append_all(&self, entries: Vec<ProduceEntry>) -> Vec<ProduceResult> {
        let now = rt::unix_ms();
        entries.into_iter().map(|entry| self.append(entry, now)).collect()
    }

    fn append(&self, entry: ProduceEntry, now: i64) -> ProduceResult {
        let (bytes, records) =
            (entry.records.len(), BatchHeader::parse(&entry.records).map_or(0, |h| h.record_count));
        let appended = self.append_to(entry.partition, |replica, store| {
            replica.append(store, entry.records, now, entry.guard)
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

    /// Waits for the commit that covers all results; if the journal fails, they become errors.
    pub(super) async fn make_durable(&self, results: &mut [ProduceResult]) {
        let lsns = || results.iter().flatten().filter_map(|appended| appended.lsn);
        // Entries come in order; what was promised does not.
        let last = lsns().filter(|lsn| !lsn.is_promised()).max();
        let mut outcome = Ok(());
        for lsn in lsns().filter(|lsn| lsn.is_promised()).chain(last) {
            outcome = outcome.and(self.durable(lsn).await);
        }
        let Err(reason) = outcome else { return };
        for result in results {
            if matches!(result, Ok(Appended { lsn: Some(_), .. })) {
                *result = Err(AppendError::JournalFailed(reason.clone()).into());
            }
        }
    }

    pub(super) async fn durable(&self, lsn: Lsn) -> Result<(), std::sync::Arc<str>> {
        if !self.durable.has(lsn) && self.store.journal().failed().is_none() {
            self.durable.wait(lsn).await;
        }
        match self.store.journal().failed() {
            Some(reason) if !self.durable.has(lsn) => Err(reason),
            _ => Ok(()),
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
