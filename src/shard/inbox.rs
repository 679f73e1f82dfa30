//! What arrives from other threads, and who on this shard answers it.

use std::rc::Rc;

use super::Shard;
use super::context::Handoff;
use super::coordinator::Unavailable;
use super::message::{
    AskGroup, AskTxn, Asked, CommitInTxnResult, CommitOffsets, DeleteRecords, EndResult, EndTxns, EpochEnd,
    EpochEnds, Fetch, FetchResult, FindOffsets, Heard, Leads, ListGroups, ListTxns, Loads, Measure, Metadata,
    Ping, Produce, ProduceResult, Producers, QuotaUse, Removals, Reply, Request, Sizes, Stop,
};
use super::timing::Appending;
use crate::coordinator::group::{self, Groups};
use crate::coordinator::txn::{self, Transactions};
use crate::model::Offset;
use crate::partition::producer::ProducerView;
use crate::partition::{FoundOffset, ReadError};
use crate::rt;
use crate::rt::mesh::{Call, Caller, To};

/// How a shard serves a connection: the server's business, given to the shard so that it need not know it.
pub type ServeConnection = fn(&Rc<Shard>, Handoff);

/// A call as the shard answers it that it is sent to, which may be the one that sends it.
pub(super) trait Serve: Call<Request, Reply, Reply: 'static> + 'static {
    /// What has an order is done when this returns; the future is the answer.
    fn serve(self, shard: Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static;
}

impl Shard {
    pub(super) fn take(self: &Rc<Self>, from: Caller, request: Request, serve_connection: ServeConnection) {
        rt::stall::running("mesh");
        match Asked::new(from, request) {
            Asked::Produce(call, to) => self.spawn_answer(call, to),
            Asked::Fetch(call, to) => self.spawn_answer(call, to),
            Asked::Watch(call, to) => self.watch_for(to, call),
            Asked::FindOffsets(call, to) => self.spawn_answer(call, to),
            Asked::EpochEnds(call, to) => self.spawn_answer(call, to),
            Asked::DeleteRecords(call, to) => self.spawn_answer(call, to),
            Asked::Sizes(call, to) => self.spawn_answer(call, to),
            Asked::Producers(call, to) => self.spawn_answer(call, to),
            Asked::AskGroup(call, to) => self.spawn_answer(call, to),
            Asked::AskTxn(call, to) => self.spawn_answer(call, to),
            Asked::ListGroups(call, to) => self.spawn_answer(call, to),
            Asked::ListTxns(call, to) => self.spawn_answer(call, to),
            Asked::EndTxns(call, to) => self.spawn_answer(call, to),
            Asked::CommitOffsets(call, to) => self.spawn_answer(call, to),
            Asked::Metadata(Metadata(image, delta), to) => {
                self.apply(&image, &delta);
                self.port.reply(to, ());
            }
            Asked::Removals(call, to) => self.spawn_answer(call, to),
            Asked::Measure(Measure, to) => self.port.reply(to, Box::new(self.measure())),
            Asked::QuotaUse(QuotaUse(used), to) => {
                self.quotas.hear(&used);
                self.port.reply(to, ());
            }
            Asked::Connection(connection, to) => {
                serve_connection(self, connection.0);
                self.port.reply(to, ());
            }
            Asked::Stop(Stop, to) => {
                self.life.stop();
                self.port.reply(to, ());
            }
            Asked::Leads(Leads(leadership), to) => {
                self.follow_leadership(leadership);
                self.port.reply(to, ());
            }
            Asked::Heard(Heard(until), to) => {
                self.coordinators.extend(until);
                self.port.reply(to, ());
            }
            Asked::Ping(Ping, to) => self.port.reply(to, ()),
            Asked::Loads(Loads { again }, to) => self.port.reply(to, Box::new(self.loads(again))),
            Asked::Control(..)
            | Asked::Applied(..)
            | Asked::QuorumStatus(..)
            | Asked::ChangeVoters(..)
            | Asked::WatchCluster(..) => {
                unreachable!("sent to the control thread only")
            }
        }
    }

    fn spawn_answer<C: Serve>(self: &Rc<Self>, call: C, to: To<C>) {
        let answer = call.serve(self.clone());
        let port = self.port.clone();
        rt::spawn(async move { port.reply(to, answer.await) });
    }
}

impl Serve for Produce {
    fn serve(self, shard: Rc<Shard>) -> impl Future<Output = (Vec<ProduceResult>, Appending)> + 'static {
        let produced = shard.produce_for(self.transaction, self.entries, self.wait);
        async move {
            let results = produced.await;
            (results, shard.metrics.timing.take_appending())
        }
    }
}

impl Serve for Fetch {
    async fn serve(self, shard: Rc<Shard>) -> Vec<FetchResult> {
        shard.read_local(&self.entries, self.max_bytes, self.source).await
    }
}

impl Serve for FindOffsets {
    async fn serve(self, shard: Rc<Shard>) -> Vec<Result<Option<FoundOffset>, ReadError>> {
        let mut answers = Vec::with_capacity(self.0.len());
        for query in self.0 {
            answers.push(shard.find_local(query).await);
        }
        answers
    }
}

impl Serve for EpochEnds {
    async fn serve(self, shard: Rc<Shard>) -> Vec<EpochEnd> {
        self.0.into_iter().map(|query| shard.epoch_end_local(query)).collect()
    }
}

impl Serve for DeleteRecords {
    async fn serve(self, shard: Rc<Shard>) -> Vec<Result<Offset, ReadError>> {
        shard.delete_local(self.0).await
    }
}

impl Serve for Sizes {
    async fn serve(self, shard: Rc<Shard>) -> Vec<Result<u64, ReadError>> {
        self.0.into_iter().map(|at| shard.size_local(at.id)).collect()
    }
}

impl Serve for Producers {
    async fn serve(self, shard: Rc<Shard>) -> Vec<Result<Vec<ProducerView>, ReadError>> {
        self.0.into_iter().map(|at| shard.producers_local(at.id)).collect()
    }
}

impl Serve for AskGroup {
    fn serve(
        self,
        shard: Rc<Shard>,
    ) -> impl Future<Output = Result<Box<group::Reply>, Unavailable>> + 'static {
        let answer = shard.coordinate::<Groups>(self.0, *self.1);
        async move { answer.await.map(Box::new) }
    }
}

impl Serve for AskTxn {
    fn serve(self, shard: Rc<Shard>) -> impl Future<Output = Result<Box<txn::Reply>, Unavailable>> + 'static {
        let answer = shard.coordinate::<Transactions>(self.0, *self.1);
        async move { answer.await.map(Box::new) }
    }
}

impl Serve for ListGroups {
    async fn serve(self, shard: Rc<Shard>) -> Result<Vec<group::Listed>, Unavailable> {
        shard.list_groups_here(&self.0)
    }
}

impl Serve for ListTxns {
    async fn serve(self, shard: Rc<Shard>) -> Result<Vec<txn::Listed>, Unavailable> {
        shard.list_transactions_here(&self.0)
    }
}

impl Serve for EndTxns {
    async fn serve(self, shard: Rc<Shard>) -> Vec<EndResult> {
        shard.end_local(self.ends, self.longest).await
    }
}

impl Serve for CommitOffsets {
    async fn serve(self, shard: Rc<Shard>) -> CommitInTxnResult {
        shard.commit_in_local(*self.0).await
    }
}

impl Serve for Removals {
    async fn serve(self, shard: Rc<Shard>) {
        shard.partitions.removals().await;
    }
}
