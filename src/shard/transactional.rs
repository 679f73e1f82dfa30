//! Produce in a transaction: its coordinator must know of a partition before the first batch is appended there (KIP-890).
//!
//! ```text
//!   batches of one producer ─▶ lane ─▶ which need the coordinator's word? ─▶ ask (version 2: add) ─▶ append ─▶ durable
//! ```
//! While one request of a producer asks, its later ones wait in line behind it: what a producer pipelines stays in
//! order. When nothing needs asking, which is all but the first batch in a partition, the request is appended at once.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Shard;
use super::coordinator::Unavailable;
use super::deadline::Due;
use super::links::Purpose;
use super::located::{Located, Where};
use super::message::{NotInTransaction, ProduceEntry, ProduceResult, Transactional};
use super::produce::timed_out;
use super::txn_codec::{self, Unanswered};
use crate::coordinator::{Machine, txn};
use crate::model::{BrokerId, Producer, ProducerId};
use crate::partition::{Acks, AppendError, Guard, Replica};
use crate::rt;
use crate::wire::batch::BatchHeader;

/// How long a coordinator is asked again while it ends the transaction before (Kafka's
/// `add.partitions.to.txn.retry.backoff.max.ms` is 100); the client asks again after that.
const PATIENCE: Duration = Duration::from_millis(100);
pub(super) const RETRY: Duration = Duration::from_millis(4);

/// How long a coordinator on another broker may take: longer than it takes to find that its answer is not on disk.
const ANSWER: Duration = Duration::from_secs(10);

/// Of offsets, which are committed without sequences.
pub(super) const NO_SEQUENCE: i32 = -1;

/// For how long a coordinator is asked again. Each question takes its own guard: the marker that is waited for voids
/// those that were taken before it.
pub(super) struct Patience(Instant);

impl Patience {
    pub(super) fn begin() -> Self {
        Self(rt::now() + PATIENCE)
    }

    /// Whether to ask again, after [`RETRY`].
    pub(super) fn bears(&self, why: &NotInTransaction) -> bool {
        *why == NotInTransaction::Refused(txn::TxnError::Concurrent) && rt::now() < self.0
    }
}

/// A guard that ends with whoever asked.
pub(super) struct Asking {
    replica: Rc<Replica>,
    producer: Producer,
    guard: Guard,
}

impl Asking {
    pub(super) fn begin(
        replica: &Rc<Replica>,
        producer: Producer,
        sequence: i32,
    ) -> Result<Self, NotInTransaction> {
        let guard = replica.begin_verification(producer, sequence);
        let guard = guard.ok_or(NotInTransaction::TooMany)?;
        Ok(Self { replica: replica.clone(), producer, guard })
    }

    /// What was asked about is still as it was.
    pub(super) fn check(&self) -> Result<(), AppendError> {
        self.replica.check_guard(self.producer, NO_SEQUENCE, Some(self.guard))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.replica.end_verification(self.producer.id, self.guard);
    }
}

impl Shard {
    /// As [`Shard::produce`], for a request that names its transactional id.
    pub(super) fn produce_in(
        self: &Rc<Self>,
        transaction: Transactional,
        entries: Vec<ProduceEntry>,
        acks: Acks,
        due: Due,
    ) -> impl Future<Output = Vec<ProduceResult>> + use<> {
        let producer = |entry| transactional(entry).map(|header| ProducerId(header.producer_id));
        let producers: Vec<ProducerId> = entries.iter().filter_map(producer).collect();
        let several = producers.iter().any(|id| *id != producers[0]);
        let held = producers.first().copied().filter(|id| {
            !several
                && (!self.intake.producers.is_free(*id)
                    || entries.iter().any(|entry| self.asks(&transaction, entry).is_some()))
        });
        let shard = self.clone();
        let stage = match held {
            _ if several => Err((None, entries)),
            Some(id) => Err((Some(self.intake.producers.enter(vec![id])), entries)),
            None => Ok(self.produce(entries, acks, due)),
        };
        async move {
            match stage {
                Ok(produced) => produced.await,
                Err((None, entries)) => {
                    entries.into_iter().map(|_| Err(NotInTransaction::SeveralProducers.into())).collect()
                }
                Err((Some(place), entries)) => {
                    let count = entries.len();
                    let asked = async {
                        place.front().await;
                        shard.ask(&transaction, entries).await
                    };
                    let Some(asked) = shard.deadlines.by(due, asked).await else { return timed_out(count) };
                    let produced = shard.produce(asked.granted, acks, due);
                    // It is appended, or in line: the next one may come.
                    drop(place);
                    let mut results = produced.await.into_iter();
                    let refused = asked.refused.into_iter();
                    let merged = refused.map(|refused| match refused {
                        Some(why) => Err(why.into()),
                        None => results.next().expect("a result for each granted entry"),
                    });
                    merged.collect()
                }
            }
        }
    }

    /// The entry's replica and header, if its transaction's coordinator has to be asked.
    fn asks(&self, transaction: &Transactional, entry: &ProduceEntry) -> Option<(Rc<Replica>, BatchHeader)> {
        let header = transactional(entry)?;
        // A client that relies on the broker to add partitions needs the coordinator in any case.
        if !transaction.implicit && !self.applied.verifies_transactions() {
            return None;
        }
        let replica = self.replica(entry.partition)?;
        replica.needs_verification(&header).then_some((replica, header))
    }

    async fn ask(self: &Rc<Self>, transaction: &Transactional, mut entries: Vec<ProduceEntry>) -> Asked {
        let patience = Patience::begin();
        loop {
            let mut asked = self.ask_once(transaction, &mut entries).await;
            if asked.refused.iter().flatten().any(|why| patience.bears(why)) {
                drop(asked);
                rt::sleep(RETRY).await;
                continue;
            }
            let granted = entries.into_iter().zip(&asked.refused).filter(|(_, refused)| refused.is_none());
            asked.granted = granted.map(|(entry, _)| entry).collect();
            return asked;
        }
    }

    async fn ask_once(self: &Rc<Self>, transaction: &Transactional, entries: &mut [ProduceEntry]) -> Asked {
        let mut asked =
            Asked { granted: Vec::new(), refused: vec![None; entries.len()], _guards: Vec::new() };
        let mut questions: Vec<(usize, txn::Partition)> = Vec::new();
        let mut asks_for = None;
        for (at, entry) in entries.iter_mut().enumerate() {
            let Some((replica, header)) = self.asks(transaction, entry) else { continue };
            let producer = Producer::new(header.producer_id, header.producer_epoch);
            asks_for = Some(producer);
            match Asking::begin(&replica, producer, header.base_sequence) {
                Ok(asking) => {
                    entry.guard = Some(asking.guard);
                    questions.push((at, (replica.topic.clone(), entry.partition.index)));
                    asked._guards.push(asking);
                }
                Err(why) => asked.refused[at] = Some(why),
            }
        }
        if let Some(producer) = asks_for.filter(|_| !questions.is_empty()) {
            let partitions = questions.iter().map(|(_, partition)| partition.clone()).collect();
            let answer = self.enlist(transaction, producer, partitions).await;
            for (nth, (at, _)) in questions.iter().enumerate() {
                asked.refused[*at] = match &answer {
                    Err(why) => Some(*why),
                    Ok(each) => each.get(nth).and_then(|one| one.err()).map(NotInTransaction::from),
                };
            }
        }
        asked
    }

    /// Adds partitions to a transaction, or asks whether they are in it.
    pub async fn enlist(
        self: &Rc<Self>,
        transaction: &Transactional,
        producer: Producer,
        partitions: Vec<txn::Partition>,
    ) -> Result<Vec<Result<(), txn::TxnError>>, NotInTransaction> {
        let coordinator = self.coordinator_of(txn::Transactions::TOPIC, &transaction.id);
        if let Some(Located { at: Where::Broker(broker), .. }) = coordinator {
            return self.enlist_at(broker, transaction, producer, &partitions).await;
        }
        let (id, verify) = (transaction.id.clone(), !transaction.implicit);
        let ask = txn::ask::add(id, producer, partitions, txn::Version::V2, verify);
        Ok(self.transaction(&transaction.id, ask).await??)
    }
}

impl Shard {
    /// Likewise, where another broker coordinates.
    async fn enlist_at(
        &self,
        broker: BrokerId,
        transaction: &Transactional,
        producer: Producer,
        partitions: &[txn::Partition],
    ) -> Result<Vec<Result<(), txn::TxnError>>, NotInTransaction> {
        let request = txn_codec::add(&transaction.id, producer, partitions, !transaction.implicit);
        let asked = async {
            let link = self.calls_to(broker, Purpose::Transactions).await?;
            link.call(&request, txn_codec::ADD, ANSWER).await
        };
        match asked.await {
            Ok(response) => Ok(txn_codec::added(partitions, &response).map_err(|why| match why {
                Unanswered::Loading => Unavailable::Loading,
                Unanswered::Elsewhere => Unavailable::NotHere,
                Unanswered::Late => Unavailable::Slow,
            })??),
            Err(why) => {
                log::debug!("{}: broker {broker}, which coordinates it, is not asked: {why}", transaction.id);
                Err(Unavailable::NotHere.into())
            }
        }
    }
}

/// What the coordinator said of a request's entries.
struct Asked {
    granted: Vec<ProduceEntry>,
    /// For each entry of the request, why it is not among them.
    refused: Vec<Option<NotInTransaction>>,
    /// Held until the batches are appended.
    _guards: Vec<Asking>,
}

/// The header of a transactional batch.
fn transactional(entry: &ProduceEntry) -> Option<BatchHeader> {
    let header = entry.batch.header;
    (header.is_transactional() && header.has_producer_id()).then_some(header)
}
