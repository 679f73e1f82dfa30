//! The transactional ids of one partition of `__transaction_state`.

use std::collections::BTreeMap;

use super::codec;
use super::state::{NO_EPOCH, State, Step, Transaction};
use super::types::{
    Command, Description, ListFilter, Listed, Name, Partition, Reply, Request, TxnError, Version,
};
use crate::coordinator::{Deadline, Effects, Fired, Machine, Ms, Record, Replayed, Token};
use crate::model::internal::TRANSACTION_STATE;
use crate::model::settings::TransactionSettings;
use crate::model::{Producer, ProducerId};

type Fx = Effects<Transactions>;

/// Ids in one partition.
const MOST_IDS: usize = 1_000_000;
/// Ids looked at in one go for those that have expired.
const EXPIRE_AT_ONCE: usize = 1000;
/// What a batch needs besides its one record.
const BATCH_OVERHEAD: usize = 128;

#[derive(Clone, Debug)]
pub enum Timer {
    /// A transaction may have been open for too long.
    Timeout(Name),
    /// Time to look for ids that nobody uses, from this one on.
    Expire(Option<Name>),
}

struct Entry {
    txn: Transaction,
    deadline: Deadline,
}

pub struct Transactions {
    settings: TransactionSettings,
    /// In an order of their own: what goes over all of them decides alike wherever it runs.
    ids: BTreeMap<Name, Entry>,
}

impl Transactions {
    pub fn new(settings: TransactionSettings) -> Self {
        Self { settings, ids: BTreeMap::new() }
    }

    /// Transactional ids known here.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn list(&self, filter: &ListFilter, wall: Ms) -> Vec<Listed> {
        let passes = |id: &Name, txn: &Transaction| {
            let named = filter.pattern.as_ref().is_none_or(|pattern| pattern.matches(id));
            let producer = filter.producer_ids.is_empty() || filter.producer_ids.contains(&txn.producer.id);
            let state = filter.states.is_empty() || filter.states.iter().any(|name| name == txn.state.name());
            let long =
                filter.longer_than_ms < 0 || wall.saturating_sub(txn.started_ms) > filter.longer_than_ms;
            producer && state && long && named
        };
        let found = self.ids.iter().filter(|(id, entry)| passes(id, &entry.txn));
        let listed = found.map(|(id, Entry { txn, .. })| Listed {
            id: id.clone(),
            producer_id: txn.producer.id,
            state: txn.state.name(),
        });
        listed.collect()
    }

    fn init(
        &mut self,
        id: &Name,
        timeout_ms: i32,
        expected: Option<Producer>,
        fresh: Option<ProducerId>,
        fx: &mut Fx,
    ) -> Reply {
        if timeout_ms <= 0 || timeout_ms > self.settings.max_timeout_ms {
            return Reply::Producer(Err(TxnError::InvalidTimeout));
        }
        if !self.ids.contains_key(id) {
            let Some(fresh) = fresh else { return Reply::NeedsProducerId };
            if self.ids.len() >= MOST_IDS {
                return Reply::Producer(Err(TxnError::TooLarge));
            }
            let txn = Transaction::new(fresh, timeout_ms);
            self.ids.insert(id.clone(), Entry { txn, deadline: Deadline::default() });
        }
        let step = self.change(id, fx, |txn, _| txn.init(timeout_ms, expected, fresh));
        match step {
            // The transaction of the producer before is being aborted: the client has to come again.
            Ok((Step::Ending, _)) => Reply::Producer(Err(TxnError::Concurrent)),
            Ok((Step::NeedsProducerId, _)) => Reply::NeedsProducerId,
            Ok((_, txn)) => Reply::Producer(Ok(txn.producer)),
            Err(e) => {
                // An id that could not be stored is not known.
                if self.ids.get(id).is_some_and(|entry| entry.txn.producer.epoch == NO_EPOCH) {
                    self.ids.remove(id);
                }
                Reply::Producer(Err(e))
            }
        }
    }

    fn add(
        &mut self,
        id: &Name,
        producer: Producer,
        partitions: &[Partition],
        version: Version,
        fx: &mut Fx,
    ) -> Reply {
        let step = self.change(id, fx, |txn, wall| txn.add(producer, partitions, version, wall));
        Reply::Added(step.map(|_| vec![Ok(()); partitions.len()]))
    }

    fn verify(&self, id: &Name, producer: Producer, partitions: &[Partition]) -> Reply {
        let entry = self.ids.get(id).ok_or(TxnError::WrongProducer);
        Reply::Added(entry.and_then(|entry| entry.txn.verify(producer, partitions)))
    }

    fn end(
        &mut self,
        id: &Name,
        producer: Producer,
        how: (bool, Version),
        fresh: Option<ProducerId>,
        fx: &mut Fx,
    ) -> Reply {
        let (commit, version) = how;
        match self.change(id, fx, |txn, wall| txn.end(producer, commit, version, fresh, wall)) {
            Ok((Step::NeedsProducerId, _)) => Reply::NeedsProducerId,
            Ok((_, txn)) => Reply::Producer(Ok(txn.after_end())),
            Err(e) => Reply::Producer(Err(e)),
        }
    }

    /// Every partition has its marker. Told of a state that has passed, it does nothing.
    fn marked(&mut self, id: &Name, producer: Producer, fx: &mut Fx) {
        let ending = |txn: &Transaction| txn.producer == producer && txn.state.is_ending();
        if self.ids.get(id).is_some_and(|entry| ending(&entry.txn)) {
            let done = self.change(id, fx, |txn, _| {
                txn.complete();
                Ok(Step::Changed)
            });
            debug_assert!(done.is_ok(), "completing makes a state smaller");
        }
    }

    /// Takes a step: the state changes, and so that a restart knows, a record is written. A state that no batch could
    /// hold is refused with nothing changed.
    fn change(
        &mut self,
        id: &Name,
        fx: &mut Fx,
        step: impl FnOnce(&mut Transaction, Ms) -> Result<Step, TxnError>,
    ) -> Result<(Step, Transaction), TxnError> {
        let entry = self.ids.get_mut(id).ok_or(TxnError::WrongProducer)?;
        let mut next = entry.txn.clone();
        let step = step(&mut next, fx.wall)?;
        if matches!(step, Step::Same | Step::NeedsProducerId) {
            return Ok((step, next));
        }
        next.updated_ms = fx.wall;
        let (key, value) = (codec::encode_key(id), codec::encode_value(&next));
        if key.len() + value.len() + BATCH_OVERHEAD > fx.max_batch {
            return Err(TxnError::TooLarge);
        }
        fx.write(Record { key, value: Some(value) });
        if step == Step::Ending {
            fx.commands.push(command(id, &next));
        }
        entry.txn = next.clone();
        entry.watch(id, fx);
        Ok((step, next))
    }

    fn expire(&mut self, from: Option<Name>, fx: &mut Fx) {
        let mut rest: Vec<&Name> =
            self.ids.keys().filter(|id| from.as_ref().is_none_or(|from| *id >= from)).collect();
        let before = fx.wall - self.settings.id_expiration_ms;
        let next = (rest.len() > EXPIRE_AT_ONCE).then(|| {
            let (_, next, _) = rest.select_nth_unstable(EXPIRE_AT_ONCE);
            next.clone()
        });
        rest.truncate(EXPIRE_AT_ONCE);
        let idle = |id: &&&Name| {
            let txn = &self.ids[**id].txn;
            txn.state != State::Ongoing && !txn.state.is_ending() && txn.updated_ms <= before
        };
        let expired: Vec<Name> = rest.iter().filter(idle).map(|id| (*id).clone()).collect();
        for id in expired {
            fx.write(Record { key: codec::encode_key(&id), value: None });
            self.ids.remove(&id);
        }
        let wait = if next.is_some() { 1 } else { self.settings.id_check_ms };
        fx.schedule(fx.now + wait, Timer::Expire(next));
    }
}

impl Entry {
    /// Sees to it that the heap asks again when an open transaction may be over its time.
    fn watch(&mut self, id: &Name, fx: &mut Fx) {
        if self.txn.state != State::Ongoing {
            return self.deadline.clear();
        }
        let left = self.txn.started_ms.saturating_add(i64::from(self.txn.timeout_ms)) - fx.wall;
        if let Some(at) = self.deadline.set(fx.now.saturating_add(left.max(0))) {
            fx.schedule(at, Timer::Timeout(id.clone()));
        }
    }
}

fn command(id: &Name, txn: &Transaction) -> Command {
    Command {
        id: id.clone(),
        producer: txn.producer,
        commit: txn.state == State::PrepareCommit,
        version: txn.version,
        partitions: txn.partitions.iter().cloned().collect(),
    }
}

impl Machine for Transactions {
    type Request = Request;
    type Reply = Reply;
    type Timer = Timer;
    type Command = Command;

    const TOPIC: &'static str = TRANSACTION_STATE;

    fn writes(request: &Request) -> bool {
        !matches!(request, Request::Add { verify: true, .. } | Request::Describe(_))
    }

    fn replay(&mut self, record: &Replayed) {
        let Some(id) = record.key.as_deref().and_then(codec::decode_key).filter(|_| !record.is_control)
        else {
            return;
        };
        let Some(value) = &record.value else {
            self.ids.remove(&id);
            return;
        };
        match codec::decode_value(value) {
            Some(txn) => {
                self.ids.insert(id, Entry { txn, deadline: Deadline::default() });
            }
            None => {
                log::warn!("{}: the record at offset {} of {id} is not known", Self::TOPIC, record.offset)
            }
        }
    }

    fn loaded(&mut self, fx: &mut Fx) {
        for (id, entry) in &mut self.ids {
            if entry.txn.state.is_ending() {
                fx.commands.push(command(id, &entry.txn));
            }
            entry.watch(id, fx);
        }
        fx.schedule(fx.now + self.settings.id_check_ms, Timer::Expire(None));
    }

    fn handle(&mut self, token: Token, request: Request, fx: &mut Fx) {
        let reply = match request {
            Request::Init { id, timeout_ms, expected, fresh } => {
                self.init(&id, timeout_ms, expected, fresh, fx)
            }
            Request::Add { id, producer, partitions, verify: true, .. } => {
                self.verify(&id, producer, &partitions)
            }
            Request::Add { id, producer, partitions, version, .. } => {
                self.add(&id, producer, &partitions, version, fx)
            }
            Request::End { id, producer, commit, version, fresh } => {
                self.end(&id, producer, (commit, version), fresh, fx)
            }
            Request::Marked { id, producer } => {
                self.marked(&id, producer, fx);
                Reply::Done
            }
            Request::Describe(id) => Reply::Described(Box::new(self.describe(&id))),
        };
        fx.reply_settled(token, reply);
    }

    fn fire(&mut self, timer: Timer, fx: &mut Fx) {
        let id = match timer {
            Timer::Timeout(id) => id,
            Timer::Expire(from) => return self.expire(from, fx),
        };
        let Some(entry) = self.ids.get_mut(&id) else { return };
        match entry.deadline.fired(fx.now) {
            Fired::Nothing => {}
            Fired::Again(at) => fx.schedule(at, Timer::Timeout(id)),
            Fired::Due if entry.txn.state == State::Ongoing => {
                log::info!("transaction {id} was open for longer than {} ms: aborted", entry.txn.timeout_ms);
                let aborted = self.change(&id, fx, |txn, _| {
                    txn.fence();
                    Ok(Step::Ending)
                });
                if let Err(e) = aborted {
                    log::error!("transaction {id} cannot be aborted: {e}");
                }
            }
            Fired::Due => {}
        }
    }

    /// Markers to partitions that went away are not needed: who writes them finds out.
    fn topics_deleted(&mut self, _names: &[String], _fx: &mut Fx) {}
}

impl Transactions {
    fn describe(&self, id: &Name) -> Result<Description, TxnError> {
        let txn = &self.ids.get(id).ok_or(TxnError::NotFound)?.txn;
        Ok(Description {
            state: txn.state.name(),
            producer: txn.producer,
            timeout_ms: txn.timeout_ms,
            started_ms: txn.started_ms,
            partitions: txn.partitions.iter().cloned().collect(),
        })
    }
}
