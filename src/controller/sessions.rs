//! Who was heard of, and when: kept by the controller alone and in memory. A new controller gives everybody a full session.

use std::collections::BTreeMap;

use crate::model::{BrokerEpoch, BrokerId, MonoMs};

/// Ticks are expected this often. What passes beyond is time in which the controller listened to nobody.
const TICK_MS: i64 = 1_000;

#[derive(Clone, Debug)]
pub struct Session {
    pub epoch: BrokerEpoch,
    heard: MonoMs,
    /// The newest metadata that the broker has applied.
    pub applied: u64,
    /// Of a broker that is about to stop: the offset of the last change that moved what it led.
    pub stops_at: Option<u64>,
    /// The offset at which this controller unfenced it.
    pub unfenced_at: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Sessions {
    session_ms: i64,
    of: BTreeMap<BrokerId, Session>,
    ticked: Option<MonoMs>,
}

impl Sessions {
    pub fn new(session_ms: i64) -> Self {
        Self { session_ms, ..Self::default() }
    }

    /// A broker registered: a new life, or a first one.
    pub fn begin(&mut self, id: BrokerId, epoch: BrokerEpoch, now: MonoMs) {
        let session = Session { epoch, heard: now, applied: 0, stops_at: None, unfenced_at: 0 };
        self.of.insert(id, session);
    }

    pub fn hear(&mut self, id: BrokerId, epoch: BrokerEpoch, applied: u64, now: MonoMs) -> &mut Session {
        if self.of.get(&id).is_none_or(|session| session.epoch != epoch) {
            self.begin(id, epoch, now);
        }
        let session = self.of.get_mut(&id).expect("it was begun");
        session.heard = MonoMs(session.heard.0.max(now.0));
        session.applied = session.applied.max(applied);
        session
    }

    pub fn end(&mut self, id: BrokerId) {
        self.of.remove(&id);
    }

    pub fn get(&self, id: BrokerId) -> Option<&Session> {
        self.of.get(&id)
    }

    pub fn is_live(&self, id: BrokerId, now: MonoMs) -> bool {
        self.of.get(&id).is_some_and(|session| now.since(session.heard) < self.session_ms)
    }

    /// Who was not heard for so long.
    pub fn silent(&self, now: MonoMs, ms: i64) -> impl Iterator<Item = BrokerId> + '_ {
        self.of.iter().filter(move |(_, session)| now.since(session.heard) >= ms).map(|(id, _)| *id)
    }

    /// What was proposed after this offset is void.
    pub fn forget_after(&mut self, offset: u64) {
        for session in self.of.values_mut() {
            session.stops_at = session.stops_at.map(|at| at.min(offset));
            session.unfenced_at = session.unfenced_at.min(offset);
        }
    }

    /// Time passes. A controller that was kept from running has heard nobody meanwhile, which says nothing of them.
    pub fn pass(&mut self, now: MonoMs) {
        let missed = self.ticked.map_or(0, |last| now.since(last) - TICK_MS);
        if missed > 0 {
            self.of.values_mut().for_each(|session| session.heard.0 += missed);
        }
        self.ticked = Some(MonoMs(self.ticked.map_or(now.0, |last| last.0.max(now.0))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticked(sessions: &mut Sessions, until: i64) {
        let from = sessions.ticked.map_or(0, |last| last.0);
        (from..=until).step_by(500).for_each(|now| sessions.pass(MonoMs(now)));
    }

    #[test]
    fn who_is_silent_for_a_session_is_gone() {
        let mut sessions = Sessions::new(6_000);
        sessions.begin(1, BrokerEpoch(5), MonoMs(0));
        ticked(&mut sessions, 4_000);
        sessions.hear(1, BrokerEpoch(5), 9, MonoMs(4_000));
        ticked(&mut sessions, 10_000);
        assert!(sessions.is_live(1, MonoMs(9_999)) && !sessions.is_live(1, MonoMs(10_000)));
        assert!(!sessions.is_live(2, MonoMs(0)));
        sessions.end(1);
        assert!(!sessions.is_live(1, MonoMs(4_000)));
    }

    #[test]
    fn what_a_controller_slept_through_is_nobodys_silence() {
        let mut sessions = Sessions::new(6_000);
        sessions.begin(1, BrokerEpoch(5), MonoMs(0));
        ticked(&mut sessions, 3_000);
        sessions.pass(MonoMs(60_000));
        assert!(sessions.is_live(1, MonoMs(60_000)));
        ticked(&mut sessions, 64_000);
        assert!(!sessions.is_live(1, MonoMs(64_000)));
    }

    #[test]
    fn a_new_life_has_applied_nothing() {
        let mut sessions = Sessions::new(6_000);
        sessions.hear(1, BrokerEpoch(5), 9, MonoMs(0)).stops_at = Some(7);
        assert_eq!(sessions.hear(1, BrokerEpoch(5), 3, MonoMs(1)).applied, 9, "nobody forgets");
        let session = sessions.hear(1, BrokerEpoch(8), 3, MonoMs(2));
        assert_eq!((session.applied, session.stops_at), (3, None));
    }
}
