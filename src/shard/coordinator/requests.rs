//! Asking whoever coordinates a key.

use std::rc::Rc;

use super::driver::Unavailable;
use super::kinds::Kind;
use crate::coordinator::group::{self, Groups};
use crate::coordinator::txn::{self, Transactions};
use crate::coordinator::{Ask, partition_for};
use crate::rt::{self, race};
use crate::shard::Shard;
use crate::shard::located::{Located, Where};
use crate::shard::message::{ListGroups, ListTxns};

impl Shard {
    /// The partition of an internal topic that coordinates a key, if the topic exists.
    pub fn coordinator_of(&self, topic: &str, key: &str) -> Option<Located> {
        self.applied.look(|image| {
            let topic = image.topic(topic)?;
            self.leader_of(topic, partition_for(key, topic.partitions.len()))
        })
    }

    /// Sends a request to a group's coordinator, on whichever shard. It is on its way when this returns.
    pub fn group<A>(
        self: &Rc<Self>,
        group: &str,
        ask: Ask<Groups, A>,
    ) -> impl Future<Output = Result<A, Unavailable>> + use<A> {
        self.ask_coordinator(group, ask)
    }

    /// As [`Self::group`], of a transactional id.
    pub fn transaction<A>(
        self: &Rc<Self>,
        id: &str,
        ask: Ask<Transactions, A>,
    ) -> impl Future<Output = Result<A, Unavailable>> + use<A> {
        self.ask_coordinator(id, ask)
    }

    fn ask_coordinator<M: Kind, A>(
        self: &Rc<Self>,
        key: &str,
        ask: Ask<M, A>,
    ) -> impl Future<Output = Result<A, Unavailable>> + use<M, A> {
        enum Stage<L, R> {
            Refused,
            Local(L),
            Remote(R),
        }
        let stage = match self.coordinator_of(M::TOPIC, key) {
            Some(Located { id, at: Where::Here }) => Stage::Local(self.coordinate::<M>(id, ask.request)),
            Some(Located { id, at: Where::Shard(shard) }) => {
                Stage::Remote(self.port.call(shard, M::call(id, Box::new(ask.request))))
            }
            Some(Located { at: Where::Broker(_) | Where::Nobody, .. }) | None => Stage::Refused,
        };
        let stopped = self.stopped();
        async move {
            let answer = async {
                let reply = match stage {
                    Stage::Refused => Err(Unavailable::NotHere),
                    Stage::Local(answer) => answer.await,
                    Stage::Remote(call) => call.await.map(|reply| *reply),
                };
                (ask.answer)(reply?).ok_or(Unavailable::Failed)
            };
            // A JoinGroup may wait for minutes; who stops does not.
            race(answer, stopped).await.a().unwrap_or(Err(Unavailable::NotHere))
        }
    }

    /// The groups of every shard that pass the filters.
    pub async fn list_groups(
        self: &Rc<Self>,
        filter: group::ListFilter,
    ) -> Result<Vec<group::Listed>, Unavailable> {
        let mut listed = Vec::new();
        for answer in self.ask_all(ListGroups(filter)).await {
            listed.extend(answer?);
        }
        Ok(listed)
    }

    /// The transactional ids of every shard that pass the filters.
    pub async fn list_transactions(
        self: &Rc<Self>,
        filter: &txn::ListFilter,
    ) -> Result<Vec<txn::Listed>, Unavailable> {
        let mut listed = Vec::new();
        for answer in self.ask_all(ListTxns(filter.clone())).await {
            listed.extend(answer?);
        }
        Ok(listed)
    }

    /// Whether this broker may take itself for who coordinates what it leads (C7). In place of the only broker nobody else is told
    /// to, however long its controller takes.
    pub fn may_coordinate(&self) -> bool {
        self.coordinators_silent().is_none()
    }

    /// For how long it may not.
    pub(in crate::shard) fn coordinators_silent(&self) -> Option<std::time::Duration> {
        let silent = self.coordinators.silent_for()?;
        self.applied.look(|image| image.brokers().len() > 1).then_some(silent)
    }

    pub(in crate::shard) fn list_groups_here(
        &self,
        filter: &group::ListFilter,
    ) -> Result<Vec<group::Listed>, Unavailable> {
        self.list_here::<Groups, _>(|machine| machine.list(filter))
    }

    pub(in crate::shard) fn list_transactions_here(
        &self,
        filter: &txn::ListFilter,
    ) -> Result<Vec<txn::Listed>, Unavailable> {
        let wall = rt::unix_ms();
        self.list_here::<Transactions, _>(|machine| machine.list(filter, wall))
    }

    fn list_here<M: Kind, T>(&self, list: impl FnMut(&M) -> Vec<T>) -> Result<Vec<T>, Unavailable> {
        if !self.may_coordinate() {
            return Err(Unavailable::NotHere);
        }
        Ok(M::driver(self).each(list)?.into_iter().flatten().collect())
    }
}
