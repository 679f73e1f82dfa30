//! Incremental fetch sessions (KIP-227): the broker remembers which partitions a client reads and from where, the client
//! sends only what changed, and the broker answers only for what has news. Pure.
//!
//! A session lives on the shard of the connection that opened it. A client that comes back elsewhere is told that the
//! session is unknown and opens another, as it does after a broker's restart.
//!
//! When all slots are taken, a session that was not used for two minutes gives way, or one that is as old and has fewer
//! partitions than the new one; else the new one is not kept (Kafka's `FetchSessionCache`). So more clients than slots
//! do not drive out each other's sessions before they are used.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use kafka_wire_core::StrBytes;

use crate::model::{LeaderEpoch, MonoMs, Offset, TopicId};

const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;
/// What Kafka calls `min.incremental.fetch.session.eviction.ms`.
const EVICTABLE_AFTER_MS: i64 = 120_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    UnknownId,
    InvalidEpoch,
    /// Names where the session has ids, or the other way round.
    TopicIdMismatch,
}

/// What a client reads of one partition, and what it was last told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionPartition {
    pub name: StrBytes,
    pub topic_id: TopicId,
    pub index: i32,
    /// As it was asked for, be it negative.
    pub offset: Offset,
    pub max_bytes: i32,
    pub leader_epoch: Option<LeaderEpoch>,
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Of the last answer; `None` before the first and after an error.
    pub told: Option<Ends>,
}

impl SessionPartition {
    fn is(&self, other: &Self) -> bool {
        self.index == other.index && self.topic_id == other.topic_id && self.name == other.name
    }
}

struct Session {
    epoch: i32,
    uses_ids: bool,
    partitions: VecDeque<SessionPartition>,
    opened: MonoMs,
    last_used: MonoMs,
}

/// How one request is to be served.
#[derive(Debug)]
pub struct Plan {
    /// 0 outside of a session.
    pub session_id: i32,
    /// Only partitions with news are answered.
    pub incremental: bool,
    pub partitions: Vec<SessionPartition>,
}

/// A request's session fields.
pub struct SessionRequest {
    pub id: i32,
    pub epoch: i32,
    pub uses_ids: bool,
    pub partitions: Vec<SessionPartition>,
    pub forgotten: Vec<SessionPartition>,
}

/// What was answered for a partition of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// `None`: an error.
    pub ends: Option<Ends>,
    pub has_data: bool,
}

/// High watermark and log start.
pub type Ends = (Offset, Offset);

pub struct Sessions {
    /// In order, so that of two that are as old the same one gives way everywhere.
    by_id: RefCell<BTreeMap<i32, Session>>,
    slots: usize,
    next_id: Cell<i32>,
    step: i32,
}

impl Sessions {
    /// At most `slots` sessions; ids are `shard` modulo `shards`, from a random start so that ids from before a restart
    /// are most likely unknown.
    pub fn new(slots: usize, shard: usize, shards: usize, seed: u32) -> Self {
        let step = shards.max(1) as i32;
        let start = (seed & 0x3fff_ffff) as i32 / step * step;
        let next_id = Cell::new(start + shard as i32 + step);
        Self { by_id: RefCell::default(), slots, next_id, step }
    }

    pub fn len(&self) -> usize {
        self.by_id.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.borrow().is_empty()
    }

    pub fn begin(&self, now: MonoMs, request: SessionRequest) -> Result<Plan, SessionError> {
        let mut by_id = self.by_id.borrow_mut();
        if request.epoch == INITIAL_EPOCH || request.epoch == FINAL_EPOCH {
            by_id.remove(&request.id);
            let open = request.epoch == INITIAL_EPOCH && !request.partitions.is_empty();
            let session_id = if open { self.open(&mut by_id, now, &request) } else { 0 };
            return Ok(Plan { session_id, incremental: false, partitions: request.partitions });
        }
        let session = by_id.get_mut(&request.id).ok_or(SessionError::UnknownId)?;
        if request.epoch != session.epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if (!request.partitions.is_empty() || !request.forgotten.is_empty())
            && request.uses_ids != session.uses_ids
        {
            return Err(SessionError::TopicIdMismatch);
        }
        session.last_used = now;
        session.update(request.partitions, &request.forgotten);
        if session.partitions.is_empty() {
            by_id.remove(&request.id);
            return Ok(Plan { session_id: 0, incremental: false, partitions: Vec::new() });
        }
        session.epoch = next_epoch(session.epoch);
        let partitions = session.partitions.iter().cloned().collect();
        Ok(Plan { session_id: request.id, incremental: true, partitions })
    }

    /// Opens a session; 0 if there is no slot for it.
    fn open(&self, by_id: &mut BTreeMap<i32, Session>, now: MonoMs, request: &SessionRequest) -> i32 {
        if by_id.len() >= self.slots && !evict(by_id, now, request.partitions.len()) {
            return 0;
        }
        let id = self.next_id.get();
        self.next_id.set(id.checked_add(self.step).unwrap_or(id % self.step + self.step));
        let session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            uses_ids: request.uses_ids,
            partitions: request.partitions.iter().cloned().collect(),
            opened: now,
            last_used: now,
        };
        by_id.insert(id, session);
        id
    }

    /// Nothing was answered to this plan: a session that it opened is none, another one stays as it was.
    pub fn abandon(&self, plan: &Plan) {
        if !plan.incremental {
            self.by_id.borrow_mut().remove(&plan.session_id);
        }
    }

    /// Notes what a plan's partitions were answered, and returns which of them belong into the response.
    pub fn finish(&self, plan: &Plan, told: &[Told]) -> Vec<bool> {
        let include = plan.partitions.iter().zip(told).map(|(partition, told)| {
            !plan.incremental || told.has_data || told.ends.is_none() || partition.told != told.ends
        });
        let include = include.collect();
        if let Some(session) = self.by_id.borrow_mut().get_mut(&plan.session_id)
            && session.partitions.len() == told.len()
        {
            session.note(told);
        }
        include
    }
}

/// Makes room for a session of so many partitions, if one may give way to it.
fn evict(by_id: &mut BTreeMap<i32, Session>, now: MonoMs, partitions: usize) -> bool {
    let is_over = |since: MonoMs| now.since(since) > EVICTABLE_AFTER_MS;
    let unused = by_id.iter().min_by_key(|(_, s)| s.last_used).filter(|(_, s)| is_over(s.last_used));
    let smaller = || {
        let old = by_id.iter().filter(|(_, s)| is_over(s.opened));
        old.min_by_key(|(_, s)| s.partitions.len()).filter(|(_, s)| s.partitions.len() < partitions)
    };
    let evicted = unused.or_else(smaller).map(|(id, _)| *id);
    evicted.is_some_and(|id| by_id.remove(&id).is_some())
}

impl Session {
    fn update(&mut self, partitions: Vec<SessionPartition>, forgotten: &[SessionPartition]) {
        for partition in partitions {
            match self.partitions.iter_mut().find(|p| p.is(&partition)) {
                Some(known) => *known = SessionPartition { told: known.told, ..partition },
                None => self.partitions.push_back(partition),
            }
        }
        if !forgotten.is_empty() {
            self.partitions.retain(|p| !forgotten.iter().any(|f| f.is(p)));
        }
    }

    /// Who got data goes to the back, so that a size limit does not starve the others.
    fn note(&mut self, told: &[Told]) {
        let mut served = VecDeque::new();
        let mut others = VecDeque::with_capacity(told.len());
        for (mut partition, told) in self.partitions.drain(..).zip(told) {
            // An error is told again until it is gone.
            partition.told = told.ends;
            if told.has_data { served.push_back(partition) } else { others.push_back(partition) }
        }
        others.append(&mut served);
        self.partitions = others;
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonoMs = MonoMs(7);

    fn partition(index: i32) -> SessionPartition {
        SessionPartition { name: "t".into(), index, ..SessionPartition::default() }
    }

    fn request(id: i32, epoch: i32, partitions: &[i32], forgotten: &[i32]) -> SessionRequest {
        SessionRequest {
            id,
            epoch,
            uses_ids: false,
            partitions: partitions.iter().copied().map(partition).collect(),
            forgotten: forgotten.iter().copied().map(partition).collect(),
        }
    }

    fn told(high_watermark: i64, has_data: bool) -> Told {
        Told { ends: Some((Offset(high_watermark), Offset::ZERO)), has_data }
    }

    #[test]
    fn only_news_is_answered() {
        let sessions = Sessions::new(10, 1, 2, 7);
        let plan = sessions.begin(NOW, request(0, 0, &[0, 1, 2], &[])).unwrap();
        let id = plan.session_id;
        assert_eq!((id % 2, plan.incremental, plan.partitions.len()), (1, false, 3));
        assert_eq!(sessions.finish(&plan, &[told(0, false); 3]), [true; 3]);

        let plan = sessions.begin(NOW, request(id, 1, &[], &[])).unwrap();
        assert_eq!(
            sessions.finish(&plan, &[told(0, false), told(5, true), told(3, false)]),
            [false, true, true]
        );

        let plan = sessions.begin(NOW, request(id, 2, &[7], &[0])).unwrap();
        let order: Vec<_> = plan.partitions.iter().map(|p| p.index).collect();
        assert_eq!(order, [2, 1, 7], "the one that got data goes last, the new one after it");
        assert_eq!(
            sessions.finish(&plan, &[told(3, false), told(5, false), told(0, false)]),
            [false, false, true]
        );
    }

    #[test]
    fn wrong_ids_and_epochs_are_refused() {
        let sessions = Sessions::new(10, 0, 1, 7);
        let id = sessions.begin(NOW, request(0, 0, &[0], &[])).unwrap().session_id;
        assert_eq!(sessions.begin(NOW, request(id + 1, 1, &[], &[])).unwrap_err(), SessionError::UnknownId);
        assert_eq!(sessions.begin(NOW, request(id, 2, &[], &[])).unwrap_err(), SessionError::InvalidEpoch);
        let by_id = SessionRequest { uses_ids: true, ..request(id, 1, &[4], &[]) };
        assert_eq!(sessions.begin(NOW, by_id).unwrap_err(), SessionError::TopicIdMismatch);
        assert_eq!(
            sessions.begin(NOW, request(id, 1, &[], &[0])).unwrap().session_id,
            0,
            "an empty session ends"
        );
        assert_eq!(sessions.begin(NOW, request(id, 2, &[], &[])).unwrap_err(), SessionError::UnknownId);
        let id = sessions.begin(NOW, request(0, 0, &[0], &[])).unwrap().session_id;
        assert_eq!(sessions.begin(NOW, request(id, -1, &[0], &[])).unwrap().session_id, 0);
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_session_in_use_gives_way_to_nobody() {
        let sessions = Sessions::new(2, 0, 1, 0);
        let at = |seconds: i64| MonoMs(seconds * 1000);
        let open = |sessions: &Sessions, seconds, partitions: &[i32]| {
            sessions.begin(at(seconds), request(0, 0, partitions, &[])).unwrap().session_id
        };
        let ids = [open(&sessions, 0, &[0]), open(&sessions, 0, &[0, 1])];
        assert_eq!(open(&sessions, 100, &[0, 1, 2]), 0, "both are young");
        sessions.begin(at(100), request(ids[0], 1, &[], &[])).unwrap();
        assert_ne!(open(&sessions, 130, &[0]), 0, "the other one was not used for two minutes");
        assert_eq!(
            sessions.begin(at(130), request(ids[1], 1, &[], &[])).unwrap_err(),
            SessionError::UnknownId
        );
        assert_eq!(open(&sessions, 140, &[0]), 0, "no larger than the old one that is in use");
        assert_ne!(open(&sessions, 140, &[0, 1]), 0);
        assert_eq!(
            sessions.begin(at(140), request(ids[0], 2, &[], &[])).unwrap_err(),
            SessionError::UnknownId
        );
        assert_eq!(sessions.len(), 2);
    }
}
