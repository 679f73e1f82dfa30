//! Requests about partitions that are neither produce nor fetch: one call to each owner, answers in order.

use std::rc::Rc;

use super::Shard;
use super::located::Located;
use super::message::{
    DeleteRecords, EpochEnd, EpochEnds, EpochQuery, FindOffsets, OffsetQuery, Producers, Sizes,
};
use crate::model::{Offset, PartitionId};
use crate::partition::producer::ProducerView;
use crate::partition::{FoundOffset, ReadError};

impl Shard {
    pub async fn find_offsets(
        self: &Rc<Self>,
        queries: &[OffsetQuery],
    ) -> Vec<Result<Option<FoundOffset>, ReadError>> {
        self.route(queries, FindOffsets).await
    }

    pub async fn epoch_ends(self: &Rc<Self>, queries: &[EpochQuery]) -> Vec<EpochEnd> {
        self.route(queries, EpochEnds).await
    }

    /// Moves log starts up to the given offsets, or else the high watermark; the new log starts once durable.
    pub async fn delete_records(
        self: &Rc<Self>,
        queries: &[(Located, Option<Offset>)],
    ) -> Vec<Result<Offset, ReadError>> {
        self.route(queries, DeleteRecords).await
    }

    /// Bytes of each partition.
    pub async fn sizes(self: &Rc<Self>, partitions: &[Located]) -> Vec<Result<u64, ReadError>> {
        self.route(partitions, Sizes).await
    }

    /// The producers that each partition remembers.
    pub async fn producers(
        self: &Rc<Self>,
        partitions: &[Located],
    ) -> Vec<Result<Vec<ProducerView>, ReadError>> {
        self.route(partitions, Producers).await
    }

    pub(super) fn size_local(&self, partition: PartitionId) -> Result<u64, ReadError> {
        Ok(self.held(partition)?.size_bytes())
    }

    pub(super) fn producers_local(&self, partition: PartitionId) -> Result<Vec<ProducerView>, ReadError> {
        Ok(self.held(partition)?.producers())
    }

    pub(super) async fn find_local(&self, query: OffsetQuery) -> Result<Option<FoundOffset>, ReadError> {
        let replica = self.held(query.partition.id)?;
        replica.find_offset(query.timestamp, query.leader_epoch, query.committed).await
    }

    pub(super) fn epoch_end_local(&self, query: EpochQuery) -> EpochEnd {
        let replica = self.held(query.partition.id)?;
        replica.epoch_end(query.epoch, query.current)
    }

    /// One checkpoint makes all the new log starts durable: an answered deletion survives a crash.
    pub(super) async fn delete_local(
        &self,
        queries: Vec<(Located, Option<Offset>)>,
    ) -> Vec<Result<Offset, ReadError>> {
        let mut moved = false;
        let results: Vec<_> =
            queries.iter().map(|(at, to)| self.move_log_start(at.id, *to, &mut moved)).collect();
        if !moved {
            return results;
        }
        match self.partitions.checkpoint().await {
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
        to: Option<Offset>,
        moved: &mut bool,
    ) -> Result<Offset, ReadError> {
        let (start, new) = self.held(partition)?.delete_records(to)?;
        *moved |= new;
        Ok(start)
    }
}
