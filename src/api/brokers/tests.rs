use bytes::{Buf, BytesMut};
use kafka_wire::KafkaRequest;

use super::*;
use crate::controller::loads::{BrokerLoad, Disk, PartitionLoad};
use crate::controller::{
    AlterPartitions, ControlError, ControlErrorKind, ControlReply, Desk, Heard, Heartbeat, IsrChange,
    IsrRefusal, NewTopic, PartitionState, ProducerIdBlock, Registration,
};
use crate::model::{BrokerEpoch, BrokerSettings, LeaderEpoch, PartitionEpoch, PartitionId, TopicId};

/// A request as it arrives.
fn sent<R: KafkaRequest>(message: &R, version: i16) -> Option<ControlRequest> {
    let mut body = BytesMut::new();
    message.encode_into(&mut body, ApiVersion::new(version)).unwrap();
    let header = RequestHeader {
        api_key: R::API_KEY.value(),
        api_version: version,
        correlation_id: 1,
        client_id: None,
    };
    assert!((0..body.len()).all(|cut| decode(&header, body.clone().split_to(cut).freeze()).is_none()));
    decode(&header, body.freeze())
}

/// An answer as it arrives.
fn answered<R: KafkaDecode>(request: &ControlRequest, reply: ControlReply, version: i16) -> R {
    let mut body = encode(request, reply, 77);
    assert_eq!(body.get_u8(), 0, "no tags in the header");
    R::decode(&mut Decoder::new(body, decode_limits(1 << 20)).unwrap(), ApiVersion::new(version)).unwrap()
}

fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TopicId([7; 16]), index }
}

fn registration() -> Registration {
    let mut registration = Registration::of(&BrokerSettings::default(), 4, [1; 16], [2; 16]);
    registration.cluster = "c".into();
    registration.rack = Some("r".into());
    registration.needs_repair = vec![partition(1), partition(2)];
    registration.stopped_in = Some(BrokerEpoch(12));
    registration
}

#[test]
fn requests_arrive_as_they_were_made() {
    for id in [None, Some(5)] {
        let made = Registration { id, ..registration() };
        let Some(ControlRequest::Register(got)) = sent(&requests::registration(&made), REGISTRATION) else {
            panic!("it did not arrive")
        };
        assert_eq!(format!("{got:?}"), format!("{made:?}"));
    }
    let disk = Disk { total: 1 << 50, free: 7 };
    let some = BrokerLoad {
        disk,
        partitions: vec![PartitionLoad { id: partition(2), bytes: 5, rate: 6 }],
        whole: true,
    };
    let cases = [(vec![], None), (vec![partition(3)], Some(BrokerLoad::default())), (vec![], Some(some))];
    for (needs_repair, load) in cases {
        let made = Heartbeat {
            id: 3,
            epoch: BrokerEpoch(9),
            applied: 11,
            wants_fence: true,
            wants_shutdown: false,
            needs_repair,
            load,
        };
        let Some(ControlRequest::Heartbeat(got)) = sent(&requests::heartbeat(&made), HEARTBEAT) else {
            panic!("it did not arrive")
        };
        assert_eq!(format!("{got:?}"), format!("{made:?}"));
    }
    let made = alter();
    let Some(ControlRequest::AlterPartitions(got)) = sent(&requests::alter(&made), ALTER_PARTITION) else {
        panic!("it did not arrive")
    };
    assert_eq!(format!("{got:?}"), format!("{made:?}"));
    let made = requests::producer_ids(3, BrokerEpoch(9));
    let Some(ControlRequest::ProducerIds { broker: 3, epoch: BrokerEpoch(9) }) = sent(&made, PRODUCER_IDS)
    else {
        panic!("it did not arrive")
    };
    let topic = NewTopic { configs: vec![("a".into(), Some("b".into()))], ..NewTopic::named("t") };
    let made = requests::create_topics(std::slice::from_ref(&topic));
    let Some(ControlRequest::CreateTopics { topics, validate_only: false }) = sent(&made, CREATE_TOPICS)
    else {
        panic!("it did not arrive")
    };
    assert_eq!(format!("{topics:?}"), format!("{:?}", [topic]));
}

fn alter() -> AlterPartitions {
    let change = |index, isr: &[(i32, i64)]| IsrChange {
        id: partition(index),
        leader_epoch: LeaderEpoch(3),
        partition_epoch: PartitionEpoch(4),
        isr: isr.iter().map(|(id, epoch)| (*id, BrokerEpoch(*epoch))).collect(),
        recovering: index == 2,
    };
    let changes = vec![change(2, &[(1, 10), (2, 20)]), change(0, &[(1, 10)])];
    AlterPartitions { broker: 1, epoch: BrokerEpoch(10), applied: 99, changes }
}

#[test]
fn answers_arrive_as_they_were_given() {
    let desk = Desk::in_memory(&BrokerSettings::default());
    let image = desk.image();
    let check = |told: Told, expected: &ControlReply| {
        assert_eq!(told.applied, 77);
        let elsewhere =
            matches!(expected, ControlReply::Failed(error) if error.kind == ControlErrorKind::NotController);
        assert_eq!(told.is_elsewhere(), elsewhere);
        assert_eq!(format!("{:?}", told.reply(&image)), format!("{expected:?}"));
    };
    let errors = [ControlErrorKind::NotController, ControlErrorKind::StaleBrokerEpoch]
        .map(|kind| ControlReply::Failed(ControlError::new(kind, "because")));

    let request = ControlRequest::Register(Box::new(registration()));
    let mut replies = errors.to_vec();
    replies.push(ControlReply::Registered { id: 4, epoch: BrokerEpoch(77) });
    for reply in replies {
        check(answers::registered(answered(&request, reply.clone(), REGISTRATION)), &reply);
    }
    let request = ControlRequest::Heartbeat(Heartbeat::default());
    let mut replies = errors.to_vec();
    replies.push(ControlReply::Heard(Heard { caught_up: true, fenced: false, may_stop: true }));
    for reply in replies {
        check(answers::heard(answered(&request, reply.clone(), HEARTBEAT)), &reply);
    }
    let request = ControlRequest::AlterPartitions(alter());
    let state = PartitionState {
        leader: None,
        leader_epoch: LeaderEpoch(3),
        partition_epoch: PartitionEpoch(5),
        isr: vec![1, 2],
        recovering: true,
    };
    let mut replies = errors.to_vec();
    replies.push(ControlReply::AlteredPartitions(vec![Ok(state), Err(IsrRefusal::IneligibleReplica)]));
    for reply in replies {
        check(answers::altered(&alter(), answered(&request, reply.clone(), ALTER_PARTITION)), &reply);
    }
}

#[test]
fn blocks_and_topics_arrive_too() {
    let image = Desk::in_memory(&BrokerSettings::default()).image();
    let request = ControlRequest::ProducerIds { broker: 1, epoch: BrokerEpoch(1) };
    let stale = ControlError::new(ControlErrorKind::StaleBrokerEpoch, "because");
    for block in [Ok(ProducerIdBlock { first: 1000, len: 10 }), Err(stale)] {
        let reply = ControlReply::ProducerIds(block);
        let told = answers::producer_ids(answered(&request, reply.clone(), PRODUCER_IDS));
        assert_eq!(format!("{:?}", told.reply(&image)), format!("{reply:?}"));
    }

    let mut desk = super::super::common::testing::controller(&[("there", 1)]);
    let topics = vec![NewTopic::named("new"), NewTopic::named("there")];
    let request = ControlRequest::CreateTopics { topics: topics.clone(), validate_only: false };
    let reply = desk.handle(&request);
    let told = answers::created(&topics, answered(&request, reply, CREATE_TOPICS));
    assert!(!told.is_elsewhere());
    let ControlReply::CreateTopics(results) = told.reply(&desk.image()) else { panic!("topics") };
    assert_eq!(&*results[0].as_ref().unwrap().name, "new");
    assert_eq!(results[1].as_ref().unwrap_err().kind, ControlErrorKind::TopicExists);
    let elsewhere = ControlReply::Failed(ControlError::new(ControlErrorKind::NotController, "because"));
    assert!(answers::created(&topics, answered(&request, elsewhere, CREATE_TOPICS)).is_elsewhere());
}

#[test]
fn every_refusal_has_a_code_of_its_own() {
    let all = [
        IsrRefusal::NotController,
        IsrRefusal::UnknownTopicId,
        IsrRefusal::UnknownPartition,
        IsrRefusal::FencedLeaderEpoch,
        IsrRefusal::InvalidUpdateVersion,
        IsrRefusal::InvalidRequest,
        IsrRefusal::IneligibleReplica,
        IsrRefusal::NotAttempted,
        IsrRefusal::NewLeaderElected,
    ];
    for refusal in all {
        assert_eq!(errors::refusal(errors::refusal_code(refusal)), refusal);
    }
    assert_eq!(errors::refusal(-1), IsrRefusal::InvalidRequest);
}
