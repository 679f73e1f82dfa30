use kafka_wire::metadata_request::MetadataRequestTopic;

use super::super::authorize::Everything;
use super::super::common::testing::{controller, round_trip};
use super::*;
use crate::model::listener::DEFAULT_LISTENER;

fn asking(names: Option<&[&str]>) -> MetadataRequest {
    build(|r: &mut MetadataRequest| {
        r.topics = names.map(|names| {
            names
                .iter()
                .map(|name| build(|t: &mut MetadataRequestTopic| t.name = Some((*name).into())))
                .collect()
        });
    })
}

fn names(response: &MetadataResponse) -> Vec<String> {
    let shown = |t: &MetadataResponseTopic| format!("{}:{}", t.name.as_deref().unwrap_or("-"), t.error_code);
    response.topics.iter().map(shown).collect()
}

#[test]
fn every_version_lists_topics_and_brokers() {
    let controller = controller(&[("a", 2), ("b", 1)]);
    let image = controller.image();
    for version in 0..=13 {
        let mut request = asking(Some(&["b", "nope", "a", "b", "not valid"]));
        request.include_topic_authorized_operations = version >= 8;
        let response =
            round_trip(&answer(&image, 1, (&Everything, DEFAULT_LISTENER), &request, version), version);
        assert_eq!(names(&response), ["b:0", "nope:3", "a:0", "not valid:17"]);
        assert_eq!(response.brokers.len(), 1);
        assert_eq!((&*response.brokers[0].host, response.brokers[0].port), ("127.0.0.1", 9092));
        let a = &response.topics[2];
        assert_eq!(a.topic_id.is_zero(), version < TOPIC_IDS_FROM);
        let partitions: Vec<_> = a.partitions.iter().map(|p| (p.partition_index, p.leader_id)).collect();
        assert_eq!(partitions, [(0, 1), (1, 1)]);
        assert_eq!(a.partitions[0].isr_nodes, [1]);
        if version >= 8 {
            assert_eq!(a.topic_authorized_operations, Everything.operations(Resource::Topic("a")));
        }
        if version >= 2 {
            assert_eq!(response.cluster_id.as_deref(), Some(&*image.cluster_id));
        }
    }
}

#[test]
fn null_is_all_and_empty_is_none_but_in_version_zero() {
    let controller = controller(&[("a", 1), ("b", 1)]);
    let image = controller.image();
    let count = |request: &MetadataRequest, version| {
        answer(&image, 1, (&Everything, DEFAULT_LISTENER), request, version).topics.len()
    };
    assert_eq!(count(&asking(Some(&[])), 0), 2);
    for version in 1..=13 {
        assert_eq!(count(&asking(Some(&[])), version), 0);
        assert_eq!(count(&asking(None), version), 2);
    }
}

#[test]
fn topics_are_found_by_id_from_version_twelve_on() {
    let controller = controller(&[("a", 1)]);
    let image = controller.image();
    let id = uuid(image.topic("a").unwrap().id);
    let other = Uuid::from_bytes([9; 16]);
    let mut request = asking(Some(&[]));
    request.topics = Some(
        [id, other]
            .map(|id| {
                build(|t: &mut MetadataRequestTopic| {
                    t.name = None;
                    t.topic_id = id;
                })
            })
            .into(),
    );
    for version in 12..=13 {
        let response =
            round_trip(&answer(&image, 1, (&Everything, DEFAULT_LISTENER), &request, version), version);
        assert_eq!(names(&response), ["a:0", "-:100"]);
        assert_eq!(response.topics[1].topic_id, other);
    }
    for version in 10..=11 {
        let response =
            round_trip(&answer(&image, 1, (&Everything, DEFAULT_LISTENER), &request, version), version);
        assert!(response.topics.iter().all(|t| t.error_code == 42));
    }
}

#[test]
fn only_names_that_could_exist_are_created() {
    let controller = controller(&[("a", 1)]);
    let response = answer(
        &controller.image(),
        1,
        (&Everything, DEFAULT_LISTENER),
        &asking(Some(&["a", "new", "not valid"])),
        9,
    );
    assert_eq!(missing(&response).into_iter().collect::<Vec<_>>(), ["new".into()]);
    assert!(
        missing(&answer(&controller.image(), 1, (&Everything, DEFAULT_LISTENER), &asking(None), 9))
            .is_empty()
    );
}

#[test]
fn who_comes_by_another_door_is_not_sent_to_this_one() {
    let controller = controller(&[("a", 1)]);
    for version in 0..=13 {
        let of = |listener| {
            let rights = (&Everything, listener);
            let response = answer(&controller.image(), 1, rights, &asking(Some(&["a"])), version);
            let response = round_trip(&response, version);
            let partition = &response.topics[0].partitions[0];
            (response.brokers.len(), partition.leader_id, partition.error_code)
        };
        assert_eq!(of(DEFAULT_LISTENER), (1, 1, 0));
        assert_eq!(of("INSIDE"), (0, -1, if version >= 6 { 72 } else { 5 }));
    }
}
