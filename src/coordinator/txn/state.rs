//! One transactional id: its producer, the state of its transaction, and which steps lead where. Pure.
//!
//! ```text
//!            Init                Add                 End                     Marked
//!   Empty ◀────────── Complete* ─────▶ Ongoing ───────────▶ PrepareCommit ──────────▶ CompleteCommit
//!     └──────────────────────────────────┘ └─ Init, timeout ▶ PrepareAbort ──────────▶ CompleteAbort
//! ```
//! A step is applied at once and its record appended at once; nobody is told before the record is durable. So there is
//! none of Kafka's pending states: while a transaction is being ended, its state says so.

use std::collections::BTreeSet;

use super::types::{Partition, TxnError, Version};
use crate::model::{Producer, ProducerEpoch, ProducerId};

/// An id with this epoch is used up; the one after it is for the coordinator's own fencing.
const LAST_EPOCH: ProducerEpoch = ProducerEpoch(i16::MAX - 1);
/// Of a producer that nobody has been told of yet.
pub(super) const NO_EPOCH: ProducerEpoch = ProducerEpoch(-1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Empty = 0,
    Ongoing = 1,
    PrepareCommit = 2,
    PrepareAbort = 3,
    CompleteCommit = 4,
    CompleteAbort = 5,
}

impl State {
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == id)
    }

    /// As Kafka's tools print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// Whether markers are being written.
    pub fn is_ending(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub producer: Producer,
    /// The producer id before this one, for retries across a change of ids.
    pub previous_id: Option<ProducerId>,
    /// The producer id that replaces a used-up one once the markers are written.
    pub next_id: Option<ProducerId>,
    /// The epoch before the client's last request for a new one, unless another client asked. Not stored.
    pub last_epoch: Option<ProducerEpoch>,
    pub timeout_ms: i32,
    pub state: State,
    pub partitions: BTreeSet<Partition>,
    pub started_ms: i64,
    pub updated_ms: i64,
    /// The protocol of the last step.
    pub version: Version,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing changed: it was so already.
    Same,
    Changed,
    /// Markers have to be written.
    Ending,
    NeedsProducerId,
}

/// A producer that begins with an id that nobody had.
fn first(id: ProducerId) -> Producer {
    Producer { id, epoch: ProducerEpoch::ZERO }
}

/// The epoch that fences this one.
fn after(epoch: ProducerEpoch) -> ProducerEpoch {
    ProducerEpoch(epoch.0.saturating_add(1))
}

impl Transaction {
    pub fn new(id: ProducerId, timeout_ms: i32) -> Self {
        Self {
            producer: Producer { id, epoch: NO_EPOCH },
            previous_id: None,
            next_id: None,
            last_epoch: None,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeSet::new(),
            started_ms: -1,
            updated_ms: -1,
            version: Version::V0,
        }
    }

    fn is_used_up(&self) -> bool {
        self.producer.epoch >= LAST_EPOCH
    }

    /// A producer takes the transactional id over, or asks for a new epoch.
    pub fn init(
        &mut self,
        timeout_ms: i32,
        expected: Option<Producer>,
        fresh: Option<ProducerId>,
    ) -> Result<Step, TxnError> {
        self.check_settled()?;
        let epoch = self.producer.epoch;
        let known = expected.is_none_or(|e| {
            epoch == NO_EPOCH
                || e.id == self.producer.id
                || (Some(e.id) == self.previous_id && e.epoch >= LAST_EPOCH)
        });
        if !known {
            return Err(TxnError::Fenced);
        }
        if self.state == State::Ongoing {
            self.fence();
            return Ok(Step::Ending);
        }
        let id = self.producer.id;
        let (producer, last_epoch) = match expected {
            _ if self.is_used_up() && expected.is_none_or(|e| e.epoch == epoch) => {
                let Some(fresh) = fresh else { return Ok(Step::NeedsProducerId) };
                (first(fresh), expected.map(|_| epoch))
            }
            None => (Producer { id, epoch: after(epoch) }, None),
            Some(e) if Some(e.epoch) == self.last_epoch && epoch != NO_EPOCH && e.epoch != epoch => {
                // The answer to the first try was lost.
                (self.producer, self.last_epoch)
            }
            Some(e) if (epoch == NO_EPOCH || e.epoch == epoch) && !self.is_used_up() => {
                (Producer { id, epoch: after(epoch) }, Some(epoch))
            }
            Some(_) => return Err(TxnError::Fenced),
        };
        self.previous_id = Some(id);
        self.producer = producer;
        self.last_epoch = last_epoch;
        self.timeout_ms = timeout_ms;
        self.state = State::Empty;
        self.partitions.clear();
        self.started_ms = -1;
        self.version = Version::V0;
        Ok(Step::Changed)
    }

    /// Ends the transaction without its producer, whose epoch becomes stale.
    pub fn fence(&mut self) {
        self.producer.epoch = after(self.producer.epoch);
        self.last_epoch = None;
        self.state = State::PrepareAbort;
        self.version = Version::V2;
    }

    /// Until the markers are written, who comes next has to wait, whatever it says of itself: a client that was
    /// answered may hold the producer id that follows already.
    fn check_settled(&self) -> Result<(), TxnError> {
        if self.state.is_ending() { Err(TxnError::Concurrent) } else { Ok(()) }
    }

    /// Whether a request is of this producer in this epoch.
    fn check(&self, producer: Producer) -> Result<(), TxnError> {
        if producer.id != self.producer.id {
            return Err(TxnError::WrongProducer);
        }
        if producer.epoch != self.producer.epoch {
            return Err(TxnError::Fenced);
        }
        self.check_settled()
    }

    pub fn verify(
        &self,
        producer: Producer,
        partitions: &[Partition],
    ) -> Result<Vec<Result<(), TxnError>>, TxnError> {
        self.check(producer)?;
        let of = |p: &Partition| {
            let member = self.state == State::Ongoing && self.partitions.contains(p);
            if member { Ok(()) } else { Err(TxnError::NotOfTransaction) }
        };
        Ok(partitions.iter().map(of).collect())
    }

    pub fn add(
        &mut self,
        producer: Producer,
        partitions: &[Partition],
        version: Version,
        wall: i64,
    ) -> Result<Step, TxnError> {
        self.check_settled()?;
        self.check(producer)?;
        if self.state == State::Ongoing && partitions.iter().all(|p| self.partitions.contains(p)) {
            return Ok(Step::Same);
        }
        if self.state != State::Ongoing {
            self.partitions.clear();
            self.started_ms = wall;
        }
        self.state = State::Ongoing;
        self.version = version;
        self.partitions.extend(partitions.iter().cloned());
        Ok(Step::Changed)
    }

    /// The client ends its transaction.
    pub fn end(
        &mut self,
        producer: Producer,
        commit: bool,
        version: Version,
        fresh: Option<ProducerId>,
        wall: i64,
    ) -> Result<Step, TxnError> {
        match version {
            Version::V0 => self.end_v0(producer, commit),
            Version::V2 => self.end_v2(producer, commit, fresh, wall),
        }
    }

    fn end_v0(&mut self, producer: Producer, commit: bool) -> Result<Step, TxnError> {
        if producer.id != self.producer.id {
            return Err(TxnError::WrongProducer);
        }
        if producer.epoch != self.producer.epoch {
            return Err(TxnError::Fenced);
        }
        match (self.state, commit) {
            (State::Ongoing, _) => {
                self.state = if commit { State::PrepareCommit } else { State::PrepareAbort };
                self.version = Version::V0;
                Ok(Step::Ending)
            }
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Step::Same),
            (State::PrepareCommit | State::PrepareAbort, _) => Err(TxnError::Concurrent),
            _ => Err(TxnError::InvalidState),
        }
    }

    /// The state and the epoch do not tell a retry from the next request: each end has its own epoch, so a retry
    /// is known by the epoch before the current one.
    fn end_v2(
        &mut self,
        producer: Producer,
        commit: bool,
        fresh: Option<ProducerId>,
        wall: i64,
    ) -> Result<Step, TxnError> {
        self.check_settled()?;
        let epoch = self.producer.epoch;
        let over_ids = Some(producer.id) == self.previous_id
            && producer.epoch == LAST_EPOCH
            && epoch == ProducerEpoch::ZERO;
        let is_v2 = self.version == Version::V2;
        let retry = is_v2 && (over_ids || i32::from(producer.epoch.0) + 1 == i32::from(epoch.0));
        if producer.id != self.producer.id && !(is_v2 && over_ids) {
            return Err(TxnError::WrongProducer);
        }
        let valid = match self.state {
            State::CompleteCommit | State::CompleteAbort => retry || producer.epoch == epoch,
            _ => producer.epoch == epoch,
        };
        if !valid {
            return Err(TxnError::Fenced);
        }
        match (self.state, commit) {
            (State::Ongoing, _) => self.prepare(commit, fresh),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) if retry => Ok(Step::Same),
            // An abort of nothing: only the epoch moves, so that what was sent before is stale.
            (State::Empty | State::CompleteCommit | State::CompleteAbort, false) if !retry => {
                self.partitions.clear();
                self.started_ms = wall;
                self.prepare(false, fresh)
            }
            _ => Err(TxnError::InvalidState),
        }
    }

    fn prepare(&mut self, commit: bool, fresh: Option<ProducerId>) -> Result<Step, TxnError> {
        if self.is_used_up() {
            let Some(fresh) = fresh else { return Ok(Step::NeedsProducerId) };
            self.next_id = Some(fresh);
        }
        self.last_epoch = Some(self.producer.epoch);
        self.producer.epoch = after(self.producer.epoch);
        self.state = if commit { State::PrepareCommit } else { State::PrepareAbort };
        self.version = Version::V2;
        Ok(Step::Ending)
    }

    /// What the client is once the markers are written.
    pub fn after_end(&self) -> Producer {
        self.next_id.map_or(self.producer, first)
    }

    /// The markers are written.
    pub fn complete(&mut self) {
        self.state =
            if self.state == State::PrepareCommit { State::CompleteCommit } else { State::CompleteAbort };
        if self.version == Version::V2 {
            let Producer { id, epoch } = self.producer;
            self.producer = self.after_end();
            (self.previous_id, self.last_epoch) = (Some(id), Some(epoch));
        }
        self.next_id = None;
        self.partitions.clear();
    }
}
