//! Requests about partitions that are neither produce nor fetch: one call to each owner, answers in order.

use std::collections::VecDeque;
use std::rc::Rc;

use super::Shard;
use super::inbox::Serve;
use super::message::{DeleteRecords, EpochEnds, EpochQuery, FindOffsets, OffsetQuery, Producers, Sizes};
use crate::model::PartitionId;
use crate::partition::producer::ProducerView;
use crate::partition::{FoundOffset, ReadError};

impl Shard {
    pub async fn find_offsets(
        self: &Rc<Self>,
        queries: &[OffsetQuery],
    ) -> Vec<Result<FoundOffset, ReadError>> {
        self.scatter(queries, |q| q.partition, FindOffsets).await
    }

    pub async fn epoch_ends(self: &Rc<Self>, queries: &[EpochQuery]) -> Vec<Result<(i32, i64), ReadError>> {
        self.scatter(queries, |q| q.partition, EpochEnds).await
    }

    /// Moves log starts up to the given offsets (-1: the high watermark); the new log starts once durable.
    pub async fn delete_records(
        self: &Rc<Self>,
        queries: &[(PartitionId, i64)],
    ) -> Vec<Result<i64, ReadError>> {
        self.scatter(queries, |q| q.0, DeleteRecords).await
    }

    /// Bytes of each partition.
    pub async fn sizes(self: &Rc<Self>, partitions: &[PartitionId]) -> Vec<Result<u64, ReadError>> {
        self.scatter(partitions, |id| *id, Sizes).await
    }

    /// The producers that each partition remembers.
    pub async fn producers(
        self: &Rc<Self>,
        partitions: &[PartitionId],
    ) -> Vec<Result<Vec<ProducerView>, ReadError>> {
        self.scatter(partitions, |id| *id, Producers).await
    }

    pub(super) fn size_local(&self, partition: PartitionId) -> Result<u64, ReadError> {
        self.replica(partition).map(|replica| replica.log.size_bytes()).ok_or(ReadError::UnknownPartition)
    }

    pub(super) fn producers_local(&self, partition: PartitionId) -> Result<Vec<ProducerView>, ReadError> {
        self.replica(partition).map(|replica| replica.producers()).ok_or(ReadError::UnknownPartition)
    }

    /// Sends each owner its queries, this shard included, and puts the answers in the queries' order.
    pub(super) async fn scatter<Q: Copy, A: 'static, C: Serve<Reply = Vec<A>>>(
        self: &Rc<Self>,
        queries: &[Q],
        partition: impl Fn(&Q) -> PartitionId,
        call: impl Fn(Vec<Q>) -> C,
    ) -> Vec<A> {
        let groups = self.by_owner(queries, &partition);
        let calls: Vec<_> = groups
            .iter()
            .map(|(owner, group)| {
                let call = call(group.iter().map(|q| **q).collect());
                match *owner == self.index {
                    true => Err(call),
                    false => Ok(self.port.call(*owner, call)),
                }
            })
            .collect();
        let mut by_owner: Vec<VecDeque<A>> = (0..self.count).map(|_| VecDeque::new()).collect();
        for ((owner, _), call) in groups.iter().zip(calls) {
            let answers = match call {
                Ok(call) => call.await,
                Err(call) => call.serve(self.clone()).await,
            };
            by_owner[*owner] = answers.into();
        }
        let in_order = queries.iter().map(|q| by_owner[self.owner(partition(q))].pop_front());
        in_order.map(|answer| answer.expect("an answer to each query")).collect()
    }

    pub(super) async fn find_local(&self, query: OffsetQuery) -> Result<FoundOffset, ReadError> {
        let replica = self.replica(query.partition).ok_or(ReadError::UnknownPartition)?;
        replica.find_offset(query.timestamp, query.leader_epoch, query.committed).await
    }

    pub(super) fn epoch_end_local(&self, query: EpochQuery) -> Result<(i32, i64), ReadError> {
        let replica = self.replica(query.partition).ok_or(ReadError::UnknownPartition)?;
        replica.epoch_end(query.epoch, query.current_epoch)
    }

    /// One checkpoint makes all the new log starts durable: an answered deletion survives a crash.
    pub(super) async fn delete_local(&self, queries: Vec<(PartitionId, i64)>) -> Vec<Result<i64, ReadError>> {
        let mut moved = false;
        let results: Vec<_> =
            queries.iter().map(|(id, offset)| self.move_log_start(*id, *offset, &mut moved)).collect();
        if !moved {
            return results;
        }
        match self.checkpoint().await {
            Ok(()) => results,
            Err(e) => {
                let e = ReadError::from(e);
                results.into_iter().map(|result| result.and(Err(e.clone()))).collect()
            }
        }
    }

    fn move_log_start(
        &self,
        partition: PartitionId,
        offset: i64,
        moved: &mut bool,
    ) -> Result<i64, ReadError> {
        let replica = self.replica(partition).ok_or(ReadError::UnknownPartition)?;
        let high_watermark = replica.high_watermark();
        let log_start_offset = replica.log.start_offset();
        let target = if offset == -1 { high_watermark } else { offset };
        if target < 0 || target > high_watermark {
            return Err(ReadError::OffsetOutOfRange);
        }
        if target > log_start_offset {
            replica.log.set_start_offset(target);
            *moved = true;
        }
        Ok(replica.log.start_offset())
    }
}
