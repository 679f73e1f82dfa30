//! Where things are in a log: ListOffsets, DeleteRecords, OffsetForLeaderEpoch.

use kafka_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_wire::offset_for_leader_epoch_response::EpochEndOffset;
use kafka_wire::{DeleteRecordsRequest, OffsetForLeaderEpochRequest};
use kafka_wire_records::{Compression, RecordBatch};

use crate::support::batch::{at_times, bytes_of, encoded, now_ms};
use crate::support::calls::{Fetch, Topic, code, create, list_offset, produce, read_from};
use crate::support::{Wire, msg, shared, unique};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

#[test]
fn offsets_by_position_and_by_time() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "by-time", 1, &[]);
    let t = now_ms() - 100_000;
    // Times go back and forth inside batches and between them; two of the batches are compressed.
    let batches = [
        (Compression::None, vec![t, t + 10, t + 20]),
        (Compression::Zstd, vec![t + 30, t + 50, t + 40]),
        (Compression::None, vec![t + 35, t + 36]),
        (Compression::Gzip, vec![t + 60, t + 90, t + 70]),
        (Compression::None, vec![t + 80]),
    ];
    for (codec, times) in &batches {
        produce(&mut wire, &topic, bytes_of(&RecordBatch { compression: *codec, ..at_times(times) }));
    }
    let mut check = |what: &str, from_version, query, offset, timestamp| {
        for version in from_version..=11 {
            let reply = list_offset(&mut wire, version, &topic.name, 0, query);
            let got = (reply.error_code, reply.offset, reply.timestamp);
            assert_eq!(got, (code::NONE, offset, timestamp), "{what}, v{version}");
        }
    };
    check("latest", 1, LATEST, 12, -1);
    check("earliest", 1, EARLIEST, 0, -1);
    check("largest timestamp", 7, MAX_TIMESTAMP, 9, t + 90);
    check("earliest local", 8, EARLIEST_LOCAL, 0, -1);
    check("latest tiered", 9, LATEST_TIERED, -1, -1);
    check("before everything", 1, 0, 0, t);
    check("exactly the first", 1, t, 0, t);
    check("inside the first batch", 1, t + 5, 1, t + 10);
    check("the last of the first batch", 1, t + 20, 2, t + 20);
    check("inside a compressed batch", 1, t + 31, 4, t + 50);
    check("found again past a gap", 1, t + 51, 8, t + 60);
    check("inside the second compressed batch", 1, t + 61, 9, t + 90);
    check("after everything", 1, t + 91, -1, -1);
}

#[test]
fn an_empty_partition_has_offsets_too() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "empty", 1, &[]);
    for (query, offset) in [(LATEST, 0), (EARLIEST, 0), (MAX_TIMESTAMP, -1), (0, -1)] {
        let reply = list_offset(&mut wire, 7, &topic.name, 0, query);
        assert_eq!(
            (reply.error_code, reply.offset, reply.timestamp),
            (code::NONE, offset, -1),
            "query {query}"
        );
    }
}

#[test]
fn unknown_places_have_no_offsets() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "one", 1, &[]);
    for (name, partition) in [(unique("nowhere"), 0), (topic.name.clone(), 1), (topic.name, -1)] {
        let reply = list_offset(&mut wire, 7, &name, partition, LATEST);
        assert_eq!(reply.error_code, code::UNKNOWN_TOPIC_OR_PARTITION, "{name}/{partition}");
    }
}

/// (error, low watermark)
fn delete_before(wire: &mut Wire, version: i16, topic: &str, partition: i32, offset: i64) -> (i16, i64) {
    let partition = msg!(DeleteRecordsPartition { partition_index: partition, offset: offset });
    let topic = msg!(DeleteRecordsTopic { name: topic.into(), partitions: vec![partition] });
    let request = msg!(DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 });
    let reply = wire.call(version, &request).topics.remove(0).partitions.remove(0);
    (reply.error_code, reply.low_watermark)
}

#[test]
fn deleted_records_are_gone() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "delete", 1, &[]);
    for i in 0..5 {
        produce(&mut wire, &topic, encoded([format!("a{i}"), format!("b{i}")]));
    }
    assert_eq!(delete_before(&mut wire, 0, &topic.name, 0, 3), (code::NONE, 3), "inside a batch");
    assert_eq!(list_offset(&mut wire, 7, &topic.name, 0, EARLIEST).offset, 3);
    let below = Fetch { offset: 2, ..Fetch::default() }.run(&mut wire, &topic);
    assert_eq!(below.error_code, code::OFFSET_OUT_OF_RANGE);
    let data = Fetch { offset: 3, ..Fetch::default() }.run(&mut wire, &topic);
    assert_eq!((data.error_code, data.log_start_offset), (code::NONE, 3));
    assert_eq!(read_from(&mut wire, &topic, 0, 3).len(), 7);

    assert_eq!(delete_before(&mut wire, 1, &topic.name, 0, 1), (code::NONE, 3), "never backwards");
    assert_eq!(delete_before(&mut wire, 2, &topic.name, 0, 11).0, code::OFFSET_OUT_OF_RANGE, "past the end");
    assert_eq!(delete_before(&mut wire, 2, &topic.name, 0, -2).0, code::OFFSET_OUT_OF_RANGE, "nonsense");
    assert_eq!(delete_before(&mut wire, 2, &topic.name, 0, -1), (code::NONE, 10), "-1 is the high watermark");
    assert_eq!(list_offset(&mut wire, 7, &topic.name, 0, EARLIEST).offset, 10);
    assert_eq!(list_offset(&mut wire, 7, &topic.name, 0, LATEST).offset, 10);
    assert_eq!(produce(&mut wire, &topic, encoded(["next"])), 10, "offsets go on");

    let (error, _) = delete_before(&mut wire, 2, &topic.name, 1, 0);
    assert_eq!(error, code::UNKNOWN_TOPIC_OR_PARTITION);
    let (error, _) = delete_before(&mut wire, 2, &unique("nowhere"), 0, 0);
    assert_eq!(error, code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn a_compacted_topic_refuses_to_delete_records() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "compact-delete", 1, &[("cleanup.policy", "compact")]);
    assert_eq!(delete_before(&mut wire, 2, &topic.name, 0, -1).0, code::POLICY_VIOLATION);
}

fn epoch_end(wire: &mut Wire, version: i16, topic: &Topic, current: i32, epoch: i32) -> EpochEndOffset {
    let partition =
        msg!(OffsetForLeaderPartition { partition: 0, current_leader_epoch: current, leader_epoch: epoch });
    let topic = msg!(OffsetForLeaderTopic { topic: topic.name.as_str().into(), partitions: vec![partition] });
    let mut request = msg!(OffsetForLeaderEpochRequest { topics: vec![topic] });
    if version >= 3 {
        request.replica_id = -1;
    }
    wire.call(version, &request).topics.remove(0).partitions.remove(0)
}

#[test]
fn the_end_of_an_epoch() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "epochs", 1, &[]);
    produce(&mut wire, &topic, encoded(["a", "b", "c"]));
    for version in 2..=4 {
        let end = epoch_end(&mut wire, version, &topic, -1, 0);
        assert_eq!((end.error_code, end.leader_epoch, end.end_offset), (code::NONE, 0, 3), "v{version}");
        let end = epoch_end(&mut wire, version, &topic, 0, 0);
        assert_eq!((end.error_code, end.end_offset), (code::NONE, 3), "v{version}: with the current epoch");
        let end = epoch_end(&mut wire, version, &topic, -1, 40);
        assert_eq!(
            (end.error_code, end.leader_epoch, end.end_offset),
            (code::NONE, -1, -1),
            "v{version}: not begun"
        );
        let end = epoch_end(&mut wire, version, &topic, 40, 0);
        assert_eq!(end.error_code, code::UNKNOWN_LEADER_EPOCH, "v{version}: the asker is ahead");
    }
    let nowhere = Topic { name: unique("nowhere"), ..topic };
    let end = epoch_end(&mut wire, 4, &nowhere, -1, 0);
    assert_eq!(end.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}
