//! WriteTxnMarkers: ends transactions on partitions of this broker, whatever their coordinator says. For other brokers,
//! and for tools that end what no coordinator knows of (KIP-664).

use std::collections::BTreeSet;

use kafka_wire::write_txn_markers_request::WritableTxnMarker;
use kafka_wire::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_wire::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use super::authorize::Rights;
use super::common::build;
use super::errors::append_error;
use super::request::Cx;
use crate::model::Producer;
use crate::partition::EndOfTxn;
use crate::security::{Operation, Resource};
use crate::shard::markers::LONGEST;
use crate::shard::message::{EndEntry, EndResult, ProduceError};
use crate::wire::ErrorCode;
use crate::wire::control::EndMarker;

pub async fn handle(cx: &Cx, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let denied = match cx.may(Operation::ClusterAction, Resource::Cluster) {
        true => None,
        false => cx.authorize(Operation::Alter, Resource::Cluster).err(),
    };
    let image = cx.shard.image();
    let mut ends = Vec::new();
    let mut response = WriteTxnMarkersResponse::default();
    for marker in &request.markers {
        let end = end(marker);
        let topics = marker.topics.iter().map(|topic| {
            let known = image.topic(&topic.name);
            let mut seen = BTreeSet::new();
            let indexes = topic.partition_indexes.iter().filter(|index| seen.insert(**index));
            let partitions = indexes.map(|index| {
                let known = known.and_then(|topic| cx.shard.leader_of(topic, *index));
                let missing = known.is_none().then_some(ErrorCode::UnknownTopicOrPartition);
                let refused = denied.or(missing);
                match (known, refused) {
                    (Some(partition), None) => ends.push(EndEntry { partition, end }),
                    (_, refused) => cx.count(refused.unwrap_or(ErrorCode::None)),
                }
                build(|p: &mut WritableTxnMarkerPartitionResult| {
                    p.partition_index = *index;
                    p.error_code = refused.unwrap_or(ErrorCode::None).code();
                })
            });
            build(|t: &mut WritableTxnMarkerTopicResult| {
                t.name = topic.name.clone();
                t.partitions = partitions.collect();
            })
        });
        response.markers.push(build(|r: &mut WritableTxnMarkerResult| {
            r.producer_id = marker.producer_id;
            r.topics = topics.collect();
        }));
    }
    let mut results = cx.shard.end_transactions(&ends, Some(LONGEST)).await.into_iter();
    let partitions = response.markers.iter_mut().flat_map(|m| &mut m.topics).flat_map(|t| &mut t.partitions);
    for partition in partitions.filter(|p| p.error_code == 0) {
        partition.error_code = results.next().map_or(ErrorCode::UnknownServerError, outcome).code();
        cx.count(ErrorCode::from_code(partition.error_code));
    }
    response
}

fn end(marker: &WritableTxnMarker) -> EndOfTxn {
    EndOfTxn {
        producer: Producer::new(marker.producer_id, marker.producer_epoch),
        marker: EndMarker { commit: marker.transaction_result, coordinator_epoch: marker.coordinator_epoch },
        version: marker.transaction_version,
    }
}

fn outcome(result: EndResult) -> ErrorCode {
    match result {
        Ok(_) => ErrorCode::None,
        Err(ProduceError::Append(e)) => append_error(&e),
        Err(ProduceError::TimedOut) => ErrorCode::RequestTimedOut,
        Err(ProduceError::TooFewReplicas) => ErrorCode::NotEnoughReplicasAfterAppend,
        Err(ProduceError::NotLeader) => ErrorCode::NotLeaderOrFollower,
        Err(ProduceError::UnknownPartition | ProduceError::NotInTransaction(_)) => {
            ErrorCode::UnknownTopicOrPartition
        }
    }
}
