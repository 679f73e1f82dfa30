//! What a fetcher knows of the partitions that it fetches.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::model::{MonoMs, PartitionId};
use crate::partition::follower::Asked;

/// How long somebody may come no nearer to where its leader is.
const TREND_MS: i64 = 10_000;

#[derive(Default)]
pub(super) struct Members {
    all: BTreeMap<PartitionId, Member>,
    /// Those of which the leader has to hear.
    news: BTreeSet<PartitionId>,
    /// Those that the leader's session is to forget.
    gone: BTreeSet<PartitionId>,
    /// Those that rest.
    resting: BinaryHeap<Reverse<(MonoMs, PartitionId)>>,
}

#[derive(Clone, Copy, Default)]
struct Member {
    /// What was asked last, and in which request.
    asked: Option<(u64, Asked)>,
    /// How far it was behind, some time ago.
    lag: Option<(MonoMs, i64)>,
}

impl Members {
    pub fn touch(&mut self, id: PartitionId) {
        self.all.entry(id).or_default();
        self.gone.remove(&id);
        self.news.insert(id);
    }

    pub fn has(&self, id: PartitionId) -> bool {
        self.all.contains_key(&id)
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether it was one of them.
    pub fn forget(&mut self, id: PartitionId) -> bool {
        let was = self.all.remove(&id).is_some();
        if was {
            self.news.remove(&id);
            self.gone.insert(id);
        }
        was
    }

    /// The leader has heard nothing yet.
    pub fn begin(&mut self) {
        self.gone.clear();
        self.news = self.all.keys().copied().collect();
    }

    pub fn has_news(&self) -> bool {
        !self.news.is_empty() || !self.gone.is_empty()
    }

    pub fn next_news(&mut self) -> Option<PartitionId> {
        self.news.pop_first()
    }

    pub fn take_gone(&mut self) -> Vec<PartitionId> {
        std::mem::take(&mut self.gone).into_iter().collect()
    }

    pub fn note_asked(&mut self, id: PartitionId, number: u64, asked: Asked) {
        if let Some(member) = self.all.get_mut(&id) {
            member.asked = Some((number, asked));
        }
    }

    /// What was asked of it last, if the request of that number had it: what was asked since is answered for itself.
    pub fn answered(&self, id: PartitionId, number: u64) -> Option<Asked> {
        let (at, asked) = self.all.get(&id)?.asked?;
        (at <= number).then_some(asked)
    }

    pub fn rest(&mut self, id: PartitionId, until: MonoMs) {
        self.resting.push(Reverse((until, id)));
    }

    pub fn wake_rested(&mut self, now: MonoMs) {
        while self.resting.peek().is_some_and(|Reverse((until, _))| *until <= now) {
            let Some(Reverse((_, id))) = self.resting.pop() else { break };
            if self.all.contains_key(&id) {
                self.news.insert(id);
            }
        }
    }

    pub fn next_rested(&self) -> Option<MonoMs> {
        self.resting.peek().map(|Reverse((until, _))| *until)
    }

    /// It is so far behind its leader. Whether it has come no nearer for long.
    pub fn falls_behind(&mut self, id: PartitionId, lag: i64, now: MonoMs) -> bool {
        let Some(member) = self.all.get_mut(&id) else { return false };
        match member.lag {
            Some((at, _)) if now.since(at) < TREND_MS => false,
            before => {
                member.lag = Some((now, lag));
                before.is_some_and(|(_, before)| lag >= before)
            }
        }
    }
}
