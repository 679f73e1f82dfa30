//! AlterReplicaLogDirs (KIP-113): there is one directory, so a partition is where it is asked to be, or nowhere.

use std::collections::BTreeMap;

use kafka_wire::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_wire::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::build;
use super::request::Cx;
use crate::metadata::Image;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// What a name may have so that a directory `topic-partition.uuid-future` can be named after it.
const MAX_DIR_NAME: usize = 255;
const DIR_SUFFIX: usize = ".".len() + 32 + "-future".len();

pub async fn handle(cx: &Cx, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let mut response = answer(&cx.shard.image(), &cx.shard.settings().log_dir, &request);
    if let Err(error) = cx.authorize(Operation::Alter, Resource::Cluster) {
        let results = response.results.iter_mut().flat_map(|t| &mut t.partitions);
        results.for_each(|p| p.error_code = error.code());
    }
    let results = response.results.iter().flat_map(|t| &t.partitions);
    results.for_each(|p| cx.count(ErrorCode::from_code(p.error_code)));
    response
}

fn answer(image: &Image, log_dir: &str, request: &AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let mut topics: BTreeMap<&StrBytes, BTreeMap<i32, AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            let partitions = topics.entry(&topic.name).or_default();
            partitions.extend(topic.partitions.iter().map(|index| {
                let error = check(image, log_dir, &dir.path, &topic.name, *index);
                let result = build(|p: &mut AlterReplicaLogDirPartitionResult| {
                    p.partition_index = *index;
                    p.error_code = error.code();
                });
                (*index, result)
            }));
        }
    }
    let result = |(name, partitions): (&StrBytes, BTreeMap<i32, _>)| {
        build(|t: &mut AlterReplicaLogDirTopicResult| {
            t.topic_name = name.clone();
            t.partitions = partitions.into_values().collect();
        })
    };
    build(|r: &mut AlterReplicaLogDirsResponse| r.results = topics.into_iter().map(result).collect())
}

fn check(image: &Image, log_dir: &str, wanted: &str, topic: &str, index: i32) -> ErrorCode {
    if topic.len() + "-".len() + index.to_string().len() + DIR_SUFFIX > MAX_DIR_NAME {
        return ErrorCode::InvalidTopicException;
    }
    if wanted.trim_end_matches('/') != log_dir {
        return ErrorCode::LogDirNotFound;
    }
    match image.topic(topic).and_then(|t| t.partition(index)) {
        Some(_) => ErrorCode::None,
        None => ErrorCode::ReplicaNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};

    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn a_partition_stays_where_it_is() {
        let controller = controller(&[("a", 1)]);
        let long = "x".repeat(220);
        for version in 1..=2 {
            let mut request = AlterReplicaLogDirsRequest::default();
            let dir = |path: &str, topic: &str, partitions: &[i32]| {
                let topic = build(|t: &mut AlterReplicaLogDirTopic| {
                    t.name = topic.into();
                    t.partitions = partitions.to_vec();
                });
                build(|d: &mut AlterReplicaLogDir| {
                    d.path = path.into();
                    d.topics = vec![topic];
                })
            };
            request.dirs = vec![
                dir("/d", "a", &[0, 1]),
                dir("/e", "a", &[0]),
                dir("/d", "b", &[0]),
                dir("/d", &long, &[0]),
            ];
            let reply = round_trip(&answer(&controller.image(), "/d", &request), version);
            let codes: Vec<_> =
                reply.results.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
            assert_eq!(codes, [57, 9, 9, 17], "where a partition is given twice, the last place counts");
        }
    }
}
