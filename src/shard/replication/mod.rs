//! Copies of partitions among brokers: leaders' shards are fetched from, followers' shards fetch.
//!
//! Two connections for each pair of shards that have partitions in common: the live lane's, which acks wait for, and the
//! catch-up lane's, which may take its time. What decides is in `partition::leader` and `partition::follower`; here it is
//! carried out over connections, and what many partitions have to say goes together.

mod codec;
mod dial;
mod driver;
mod fetcher;
mod ground;
mod members;
mod pace;
mod proposals;
mod serve;
mod slots;
#[cfg(test)]
mod tests;
mod waiting;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

pub use codec::VERSION;
pub use fetcher::Fetcher;
pub use ground::{Dial, Fetches, Ground, Later, Paces, Source};
pub use proposals::{Proposals, Propose};
pub use serve::Session;

use crate::model::{BrokerId, PartitionId, shard_of};
use crate::partition::Role;
use crate::peer::Lane;
use crate::rt;

/// What a shard keeps for replication.
#[derive(Default)]
pub struct Replication {
    pub(in crate::shard) proposals: Rc<Proposals>,
    paces: Paces,
    /// Once other brokers can be reached.
    followed: OnceCell<Followed>,
}

/// What a shard follows, and from where.
pub struct Followed {
    fetchers: Rc<Fetchers>,
    sources: RefCell<BTreeMap<PartitionId, Source>>,
}

/// Those who fetch.
pub struct Fetchers {
    ground: Rc<dyn Ground>,
    dial: Rc<dyn Dial>,
    all: RefCell<BTreeMap<(Source, Lane), Rc<Fetcher>>>,
}

/// What a partition may be fetched by.
const LANES: [Lane; 2] = [Lane::Live, Lane::CatchUp];

impl Followed {
    pub fn new(ground: Rc<dyn Ground>, dial: Rc<dyn Dial>) -> Self {
        let fetchers = Rc::new(Fetchers { ground, dial, all: RefCell::default() });
        Self { fetchers, sources: RefCell::default() }
    }

    /// The metadata says something new of the partition, which its replica has taken. `shards` are those of a broker, if it is
    /// registered.
    pub fn follow(&self, id: PartitionId, shards: impl Fn(BrokerId) -> Option<usize>) {
        let ground = &self.fetchers.ground;
        let replica = ground.replica(id).filter(|replica| replica.role() == Role::Follower);
        let leader = replica.as_ref().and_then(|replica| replica.leader().0);
        // Who is elected while its log is cut follows nobody.
        let leader = leader.filter(|leader| *leader != ground.me().id);
        let source = leader.and_then(|broker| {
            let shards = shards(broker).filter(|shards| *shards > 0)?;
            Some(Source { broker, shard: shard_of(id, shards) })
        });
        let before = match source {
            Some(source) => self.sources.borrow_mut().insert(id, source),
            None => self.sources.borrow_mut().remove(&id),
        };
        if let Some(before) = before.filter(|before| Some(*before) != source) {
            LANES.iter().for_each(|lane| self.fetchers.leave((before, *lane), id));
        }
        if let (Some(source), Some(replica)) = (source, replica) {
            // Of one that is new here it is not known how far behind it is.
            let first = if replica.is_in_sync() { Lane::Live } else { Lane::CatchUp };
            let lane = self.fetchers.lane_of(source, id).unwrap_or(first);
            self.fetchers.at((source, lane)).touch(id);
        }
    }

    /// Nothing is fetched any more.
    pub fn end(&self) {
        self.fetchers.all.take().into_values().for_each(|fetcher| fetcher.end());
    }
}

impl Fetchers {
    fn at(self: &Rc<Self>, (source, lane): (Source, Lane)) -> Rc<Fetcher> {
        let mut all = self.all.borrow_mut();
        let fetcher = all.entry((source, lane)).or_insert_with(|| {
            let fetcher = Fetcher::new(source, lane, self);
            rt::spawn(fetcher.clone().run(self.dial.clone()));
            fetcher
        });
        fetcher.clone()
    }

    fn lane_of(&self, source: Source, id: PartitionId) -> Option<Lane> {
        let all = self.all.borrow();
        LANES.into_iter().find(|lane| all.get(&(source, *lane)).is_some_and(|fetcher| fetcher.has(id)))
    }

    /// The partition goes from one lane to the other, and was forgotten by the first.
    fn take(self: &Rc<Self>, source: Source, id: PartitionId, (from, to): (Lane, Lane)) {
        if !self.ground.is_stopping() {
            self.at((source, to)).touch(id);
        }
        self.leave((source, from), id);
    }

    fn leave(&self, from: (Source, Lane), id: PartitionId) {
        let mut all = self.all.borrow_mut();
        let Some(fetcher) = all.get(&from) else { return };
        fetcher.forget(id);
        if fetcher.is_empty() {
            fetcher.end();
            all.remove(&from);
        }
    }
}
