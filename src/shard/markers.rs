//! Transactions on partitions of this broker: asking their coordinators, offsets that are committed in them, and their ends, as
//! markers in the log. Who has which markers written is `marking`'s.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::coordinator::Unavailable;
use super::deadline::Due;
use super::located::{Located, Where};
use super::message::{
    CommitInTxn, CommitInTxnResult, CommitOffsets, EndEntry, EndResult, EndTxns, NotInTransaction,
    ProduceError,
};
use super::produce::Waiter;
use super::transactional::{self, Asking, NO_SEQUENCE, Patience};
use crate::coordinator::Machine;
use crate::coordinator::group::{self, Groups};
use crate::partition::Acks;
use crate::rt;

/// How long another broker's coordinator, or a tool, waits for markers to be committed; then it asks again.
pub const LONGEST: Duration = Duration::from_secs(5);

impl Shard {
    /// Ends transactions on partitions of any shard; committed when it returns, or not known to be after `longest`.
    pub async fn end_transactions(
        self: &Rc<Self>,
        ends: &[EndEntry],
        longest: Option<Duration>,
    ) -> Vec<EndResult> {
        self.route(ends, |ends| EndTxns { ends, longest }).await
    }

    pub(super) async fn end_local(
        self: &Rc<Self>,
        ends: Vec<EndEntry>,
        longest: Option<Duration>,
    ) -> Vec<EndResult> {
        let due = longest.map_or(Due::NEVER, |longest| self.deadlines.after(longest));
        let waiter = Waiter { acks: Acks::All, wait: self.partitions.waits().begin(due), due };
        let each = ends.iter().enumerate();
        let mut results: Vec<EndResult> =
            each.map(|(nth, end)| self.append_end(*end, &waiter, nth)).collect();
        self.acknowledged(&waiter, &mut results).await;
        results
    }

    fn append_end(
        self: &Rc<Self>,
        EndEntry { partition, end }: EndEntry,
        waiter: &Waiter,
        nth: usize,
    ) -> EndResult {
        let partition = partition.id;
        let now = rt::wall();
        let appended = self.append_to(partition, |replica, store| {
            replica.check_acks(waiter.acks)?;
            let appended = replica.append_end(store, end, now)?;
            replica.acknowledge(&appended, waiter.acks, waiter.wait.ticket(nth));
            Ok(appended)
        })?;
        if self.replica(partition).is_some_and(|replica| &*replica.topic == Groups::TOPIC) {
            self.step_after::<Groups>(partition, appended.end, |machine, _| {
                machine.end_transaction(end.producer.id, end.marker.commit);
            });
        }
        Ok(appended)
    }

    /// Commits a group's offsets in a transaction, which they count with from now on.
    pub async fn commit_in(self: &Rc<Self>, commit: CommitInTxn) -> CommitInTxnResult {
        match commit.partition.at {
            Where::Here => self.commit_in_local(commit).await,
            Where::Shard(shard) => self.port.call(shard, CommitOffsets(Box::new(commit))).await,
            Where::Broker(_) | Where::Nobody => Ok(Err(Unavailable::NotHere)),
        }
    }

    /// The transaction's coordinator has to know of the group's partition before the first offset is written, as for
    /// any other partition; and a stale producer is refused before the group sees anything.
    pub(super) async fn commit_in_local(self: &Rc<Self>, commit: CommitInTxn) -> CommitInTxnResult {
        let CommitInTxn { partition: Located { id: partition, .. }, transaction, producer, commit } = commit;
        let replica = self.replica(partition).ok_or(ProduceError::UnknownPartition)?;
        replica.check_producer(producer)?;
        if !replica.is_open(producer) {
            let patience = Patience::begin();
            let (asking, answers) = loop {
                let asking = Asking::begin(&replica, producer, NO_SEQUENCE)?;
                let place = vec![(replica.topic.clone(), partition.index)];
                match self.enlist(&transaction, producer, place).await {
                    Err(why) if patience.bears(&why) => rt::sleep(transactional::RETRY).await,
                    answers => break (asking, answers?),
                }
            };
            answers.into_iter().collect::<Result<(), _>>().map_err(NotInTransaction::from)?;
            replica.check_producer(producer)?;
            asking.check()?;
        }
        let ask = group::ask::commit_in(commit, producer);
        let reply = self.coordinate::<Groups>(partition, ask.request).await;
        Ok(reply.and_then(|reply| (ask.answer)(reply).ok_or(Unavailable::Failed)))
    }
}
