//! Asking whoever serves a partition: this shard, or another one of this broker.

use std::collections::VecDeque;
use std::rc::Rc;

use super::Shard;
use super::inbox::Serve;
use super::located::{Located, Where};
use super::message::{EndEntry, EpochQuery, FetchEntry, OffsetQuery, ProduceError, Reply, Request};
use crate::metadata::Topic;
use crate::model::{Offset, PartitionId};
use crate::partition::ReadError;
use crate::rt::mesh::Call;

/// Something that is asked of one partition.
pub(super) trait Query: Copy {
    fn of(&self) -> Located;
}

macro_rules! queries {
    ($($query:ty: $this:ident => $of:expr;)*) => {
        $(impl Query for $query {
            fn of(&self) -> Located {
                let $this = self;
                $of
            }
        })*
    };
}

queries! {
    Located: this => *this;
    (Located, Offset): this => this.0;
    (Located, Option<Offset>): this => this.0;
    FetchEntry: this => this.partition;
    OffsetQuery: this => this.partition;
    EpochQuery: this => this.partition;
    EndEntry: this => this.partition;
}

/// This broker does not serve the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotHere;

impl From<NotHere> for ReadError {
    fn from(NotHere: NotHere) -> Self {
        Self::NotLeader
    }
}

impl From<NotHere> for ProduceError {
    fn from(NotHere: NotHere) -> Self {
        Self::NotLeader
    }
}

impl Shard {
    /// Who leads a partition; `None` where the topic has no such partition.
    pub fn leader_of(&self, topic: &Topic, index: i32) -> Option<Located> {
        let partition = topic.partition(index)?;
        let id = PartitionId { topic: topic.id, index };
        Some(Located { id, at: self.me.leader(id, partition.leader) })
    }

    /// Where this broker's replica of a partition is, whether it leads or not; `None` where the topic has no such
    /// partition.
    pub fn replica_of(&self, topic: &Topic, index: i32) -> Option<Located> {
        let partition = topic.partition(index)?;
        let id = PartitionId { topic: topic.id, index };
        let held = partition.has_replica(self.me.broker);
        Some(Located { id, at: if held { self.me.shard(id) } else { Where::Nobody } })
    }

    /// The shard of this broker that a partition is on, by its number.
    pub fn shard_at(&self, at: Where) -> Option<usize> {
        self.me.number(at)
    }

    /// Asks every owner its queries, this shard included, all at once; answers are in the queries' order.
    pub(super) async fn route<Q, A, E, C>(
        self: &Rc<Self>,
        queries: &[Q],
        call: impl Fn(Vec<Q>) -> C,
    ) -> Vec<Result<A, E>>
    where
        Q: Query,
        A: 'static,
        E: From<NotHere> + 'static,
        C: Serve<Reply = Vec<Result<A, E>>>,
    {
        self.ask_parts(queries, self.split(queries), call).await
    }

    /// The queries of each shard, in their order; those that no shard of this broker serves are in none.
    pub(super) fn split<Q: Query>(&self, queries: &[Q]) -> Vec<(usize, Vec<Q>)> {
        let mut parts: Vec<(usize, Vec<Q>)> = Vec::new();
        for query in queries {
            let Some(shard) = self.me.number(query.of().at) else { continue };
            match parts.iter_mut().find(|(of, _)| *of == shard) {
                Some((_, part)) => part.push(*query),
                None => parts.push((shard, vec![*query])),
            }
        }
        parts
    }

    /// Asks each shard its part of `queries`.
    pub(super) async fn ask_parts<Q, A, E, C>(
        self: &Rc<Self>,
        queries: &[Q],
        parts: Vec<(usize, Vec<Q>)>,
        call: impl Fn(Vec<Q>) -> C,
    ) -> Vec<Result<A, E>>
    where
        Q: Query,
        A: 'static,
        E: From<NotHere> + 'static,
        C: Serve<Reply = Vec<Result<A, E>>>,
    {
        let (mut here, mut there) = (None, Vec::new());
        for (shard, part) in parts {
            let call = call(part);
            match shard == self.me.shard {
                true => here = Some(call),
                false => there.push((shard, self.port.call(shard, call))),
            }
        }
        let mut answers: Vec<VecDeque<Result<A, E>>> = (0..self.me.count).map(|_| VecDeque::new()).collect();
        if let Some(call) = here {
            answers[self.me.shard] = call.serve(self.clone()).await.into();
        }
        for (shard, call) in there {
            answers[shard] = call.await.into();
        }
        let in_order = queries.iter().map(|query| match self.me.number(query.of().at) {
            Some(shard) => answers[shard].pop_front().expect("an answer to each query"),
            None => Err(NotHere.into()),
        });
        in_order.collect()
    }

    /// Asks every shard of this broker the same; this shard's answer is the first.
    pub(super) async fn ask_all<C: Serve + Clone>(self: &Rc<Self>, call: C) -> Vec<C::Reply> {
        let others = (0..self.me.count).filter(|shard| *shard != self.me.shard);
        let there: Vec<_> = others.map(|shard| self.port.call(shard, call.clone())).collect();
        let mut answers = vec![call.serve(self.clone()).await];
        for call in there {
            answers.push(call.await);
        }
        answers
    }

    /// Tells every other shard of this broker; nobody waits for them.
    pub(super) fn tell_others<C>(self: &Rc<Self>, call: impl Fn() -> C)
    where
        C: Call<Request, Reply>,
    {
        for shard in (0..self.me.count).filter(|shard| *shard != self.me.shard) {
            drop(self.port.call(shard, call()));
        }
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
