//! DescribeLogDirs: the directory that holds partitions, its disk, and what each partition takes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_wire::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_wire::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::common::build;
use super::request::Cx;
use crate::metadata::{Image, Topic};
use crate::rt::fs::Space;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// From here on a directory says how large its disk is.
const DISK_FROM: i16 = 4;
/// What is not known of the disk.
const UNKNOWN: i64 = -1;

pub async fn handle(cx: &Cx, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    if let Err(error) = cx.admit(Operation::Describe, Resource::Cluster) {
        return build(|r: &mut DescribeLogDirsResponse| r.error_code = error.code());
    }
    let wanted = wanted(&cx.shard.image(), &request);
    // Only what this broker has of them.
    let replica = |topic: &Topic, index: &i32| cx.shard.replica_of(topic, *index);
    let replicas =
        wanted.iter().flat_map(|(topic, indexes)| indexes.iter().filter_map(|i| replica(topic, i)));
    let mut sizes = cx.shard.sizes(&replicas.collect::<Vec<_>>()).await.into_iter();
    let topics = wanted.into_iter().filter_map(|(topic, indexes)| {
        let name = topic.wire_name();
        let sized = indexes.into_iter().filter_map(|index| Some((index, sizes.next()?.ok()?)));
        let partitions: Vec<_> = sized.map(|(index, bytes)| described(index, bytes)).collect();
        (!partitions.is_empty()).then(|| {
            build(|t: &mut DescribeLogDirsTopic| {
                t.name = name;
                t.partitions = partitions;
            })
        })
    });
    let topics = topics.collect();
    let dir = cx.shard.settings().log_dir.clone();
    let space = crate::rt::blocking({
        let dir = dir.clone();
        move || crate::rt::fs::space(dir)
    })
    .await;
    if let Err(e) = &space {
        log::warn!("the size of the disk of {dir} cannot be told: {e}");
        cx.count(ErrorCode::KafkaStorageError);
    }
    answer(&dir, topics, space.ok(), cx.version)
}

/// The partitions asked for that exist, each once, by topic.
fn wanted(image: &Image, request: &DescribeLogDirsRequest) -> Vec<(Arc<Topic>, BTreeSet<i32>)> {
    let Some(topics) = &request.topics else {
        return image.topics().map(|t| (t.clone(), (0..t.partitions.len() as i32).collect())).collect();
    };
    let mut found: Vec<(Arc<Topic>, BTreeSet<i32>)> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for asked in topics {
        let Some(topic) = image.topic(&asked.topic) else { continue };
        let place = *places.entry(topic.id).or_insert_with(|| {
            found.push((topic.clone(), BTreeSet::new()));
            found.len() - 1
        });
        let known = asked.partitions.iter().filter(|index| topic.partition(**index).is_some());
        found[place].1.extend(known);
    }
    found
}

fn described(index: i32, bytes: u64) -> DescribeLogDirsPartition {
    build(|p: &mut DescribeLogDirsPartition| {
        p.partition_index = index;
        p.partition_size = bytes as i64;
    })
}

fn answer(
    dir: &str,
    topics: Vec<DescribeLogDirsTopic>,
    space: Option<Space>,
    version: i16,
) -> DescribeLogDirsResponse {
    let result = build(|r: &mut DescribeLogDirsResult| {
        r.log_dir = dir.into();
        if version >= DISK_FROM {
            (r.total_bytes, r.usable_bytes) = (UNKNOWN, UNKNOWN);
        }
        match space {
            None => r.error_code = ErrorCode::KafkaStorageError.code(),
            Some(space) => {
                r.topics = topics;
                if version >= DISK_FROM {
                    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
                    (r.total_bytes, r.usable_bytes) = (signed(space.total), signed(space.usable));
                }
            }
        }
    });
    build(|r: &mut DescribeLogDirsResponse| r.results = vec![result])
}

#[cfg(test)]
mod tests {
    use kafka_wire::describe_log_dirs_request::DescribableLogDirTopic;

    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn every_version_tells_the_directory() {
        for version in 1..=5 {
            let topic = build(|t: &mut DescribeLogDirsTopic| {
                t.name = "a".into();
                t.partitions = vec![described(2, 77)];
            });
            let space = Space { total: u64::MAX, usable: 5 };
            let reply = round_trip(&answer("/data", vec![topic], Some(space), version), version);
            let dir = &reply.results[0];
            assert_eq!((&*dir.log_dir, dir.error_code), ("/data", 0));
            assert_eq!(dir.topics[0].partitions[0].partition_size, 77);
            let disk = if version >= DISK_FROM { (i64::MAX, 5) } else { (UNKNOWN, UNKNOWN) };
            assert_eq!((dir.total_bytes, dir.usable_bytes), disk);
            let broken = round_trip(&answer("/data", Vec::new(), None, version), version);
            assert_eq!(broken.results[0].error_code, 56);
        }
    }

    #[test]
    fn partitions_are_described_once_where_they_exist() {
        let controller = controller(&[("a", 3), ("b", 1)]);
        let image = controller.image();
        let names = |request: &DescribeLogDirsRequest| -> Vec<(String, usize)> {
            wanted(&image, request)
                .into_iter()
                .map(|(topic, indexes)| (topic.name.to_string(), indexes.len()))
                .collect()
        };
        let mut request = DescribeLogDirsRequest::default();
        request.topics = None;
        assert_eq!(names(&request), [("a".to_string(), 3), ("b".to_string(), 1)]);
        let ask = |name: &str, partitions: &[i32]| {
            build(|t: &mut DescribableLogDirTopic| {
                t.topic = name.into();
                t.partitions = partitions.to_vec();
            })
        };
        request.topics = Some(vec![ask("a", &[0, 0, 9, -1]), ask("nope", &[0]), ask("a", &[2])]);
        assert_eq!(names(&request), [("a".to_string(), 2)]);
        request.topics = Some(Vec::new());
        assert!(names(&request).is_empty());
    }
}
