//! OffsetDelete: a group forgets offsets of topics that it does not read.

use std::collections::VecDeque;

use kafka_wire::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_wire::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::authorize::Rights;
use super::common::build;
use super::groups::{code, name, unavailable};
use super::request::Cx;
use crate::coordinator::group::ask;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub async fn handle(cx: &Cx, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    if let Err(error) = cx.admit(Operation::Delete, Resource::Group(&request.group_id)) {
        return build(|r: &mut OffsetDeleteResponse| r.error_code = error.code());
    }
    let image = cx.shard.image();
    let denied = |topic: &str| cx.authorize(Operation::Read, Resource::Topic(topic)).err();
    let exists = |topic: &str, index: i32| {
        let known = image.topic(topic).is_some_and(|t| t.partition(index).is_some());
        known && denied(topic).is_none()
    };
    let topics = request.topics.iter().map(|topic| {
        let there = topic.partitions.iter().map(|p| p.partition_index).filter(|i| exists(&topic.name, *i));
        (name(&topic.name), there.collect::<Vec<_>>())
    });
    let asked = ask::delete_offsets(name(&request.group_id), topics.collect());
    let results = match cx.shard.group(&request.group_id, asked).await {
        Ok(results) => results.map_err(code),
        Err(why) => Err(unavailable(cx, why)),
    };
    let mut results: VecDeque<_> = match results {
        Ok(results) => results.into(),
        Err(error) => {
            cx.count(error);
            return build(|r: &mut OffsetDeleteResponse| r.error_code = error.code());
        }
    };
    let topics = request.topics.into_iter().map(|topic| {
        let mut of_topic = results.pop_front().unwrap_or_default().into_iter();
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let error = match exists(&topic.name, index).then(|| of_topic.next()).flatten() {
                None => denied(&topic.name).unwrap_or(ErrorCode::UnknownTopicOrPartition),
                Some(result) => result.map_or_else(code, |()| ErrorCode::None),
            };
            cx.count(error);
            build(|p: &mut OffsetDeleteResponsePartition| {
                p.partition_index = index;
                p.error_code = error.code();
            })
        });
        let partitions = partitions.collect();
        build(|t: &mut OffsetDeleteResponseTopic| {
            t.name = topic.name;
            t.partitions = partitions;
        })
    });
    build(|r: &mut OffsetDeleteResponse| r.topics = topics.collect())
}
