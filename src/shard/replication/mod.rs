//! Copies of partitions among brokers: leaders' shards are fetched from, followers' shards fetch.
//!
//! One connection for each pair of shards that have partitions in common. What decides is in `partition::leader` and
//! `partition::follower`; here it is carried out over connections, and what many partitions have to say goes together.

mod codec;
mod dial;
mod driver;
mod fetcher;
mod ground;
mod proposals;
mod serve;
mod slots;
#[cfg(test)]
mod tests;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

pub use codec::VERSION;
pub use fetcher::Fetcher;
pub use ground::{Dial, Fetches, Ground, Later, Source};
pub use proposals::{Proposals, Propose};
pub use serve::Session;

use crate::model::{BrokerId, PartitionId, shard_of};
use crate::partition::Role;
use crate::rt;

/// What a shard keeps for replication.
#[derive(Default)]
pub struct Replication {
    pub(in crate::shard) proposals: Rc<Proposals>,
    /// Once other brokers can be reached.
    followed: OnceCell<Followed>,
}

/// What a shard follows, and from where.
pub struct Followed {
    ground: Rc<dyn Ground>,
    dial: Rc<dyn Dial>,
    fetchers: RefCell<BTreeMap<Source, Rc<Fetcher>>>,
    sources: RefCell<BTreeMap<PartitionId, Source>>,
}

impl Followed {
    pub fn new(ground: Rc<dyn Ground>, dial: Rc<dyn Dial>) -> Self {
        Self { ground, dial, fetchers: RefCell::default(), sources: RefCell::default() }
    }

    /// The metadata says something new of the partition, which its replica has taken. `shards` are those of a broker, if it is
    /// registered.
    pub fn follow(&self, id: PartitionId, shards: impl Fn(BrokerId) -> Option<usize>) {
        let replica = self.ground.replica(id).filter(|replica| replica.role() == Role::Follower);
        let leader = replica.and_then(|replica| replica.leader().0);
        // Who is elected while its log is cut follows nobody.
        let leader = leader.filter(|leader| *leader != self.ground.me().id);
        let source = leader.and_then(|broker| {
            let shards = shards(broker).filter(|shards| *shards > 0)?;
            Some(Source { broker, shard: shard_of(id, shards) })
        });
        let before = match source {
            Some(source) => self.sources.borrow_mut().insert(id, source),
            None => self.sources.borrow_mut().remove(&id),
        };
        if let Some(before) = before.filter(|before| Some(*before) != source) {
            self.leave(before, id);
        }
        if let Some(source) = source {
            self.fetcher(source).touch(id);
        }
    }

    fn fetcher(&self, source: Source) -> Rc<Fetcher> {
        let mut fetchers = self.fetchers.borrow_mut();
        let fetcher = fetchers.entry(source).or_insert_with(|| {
            let fetcher = Fetcher::new(source, self.ground.clone());
            rt::spawn(fetcher.clone().run(self.dial.clone()));
            fetcher
        });
        fetcher.clone()
    }

    fn leave(&self, source: Source, id: PartitionId) {
        let mut fetchers = self.fetchers.borrow_mut();
        let Some(fetcher) = fetchers.get(&source) else { return };
        fetcher.forget(id);
        if fetcher.is_empty() {
            fetcher.end();
            fetchers.remove(&source);
        }
    }

    /// Nothing is fetched any more.
    pub fn end(&self) {
        self.fetchers.take().into_values().for_each(|fetcher| fetcher.end());
    }
}
