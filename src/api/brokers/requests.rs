//! Requests of brokers as messages, and back.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_wire::alter_partition_request::{BrokerState, PartitionData, TopicData};
use kafka_wire::broker_registration_request::{Feature, Listener};
use kafka_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::{
    AllocateProducerIdsRequest, AlterPartitionRequest, BrokerHeartbeatRequest, BrokerRegistrationRequest,
    CreateTopicsRequest,
};
use kafka_wire_core::{StrBytes, Uuid};

use super::super::common::{build, topic_id, uuid};
use super::super::create_topics::new_topic;
use super::loads;
use super::versions::{EXTRA, LOAD};
use crate::controller::{AlterPartitions, ControlRequest, Heartbeat, IsrChange, NewTopic, Registration};
use crate::metadata::records::{Endpoint, FeatureRange};
use crate::model::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionId};
use crate::peer::keys;

/// Partitions that need repair, of one message; the next heartbeats tell the rest, when these are mended.
const MOST_REPAIRS: usize = 3000;

pub fn registration(registration: &Registration) -> BrokerRegistrationRequest {
    build(|r: &mut BrokerRegistrationRequest| {
        r.broker_id = registration.id.unwrap_or(-1);
        r.cluster_id = StrBytes::from(registration.cluster.as_str());
        r.incarnation_id = Uuid::from_bytes(registration.incarnation);
        r.log_dirs = vec![Uuid::from_bytes(registration.directory)];
        r.listeners = registration.endpoints.iter().map(listener).collect();
        r.features = registration.features.iter().map(feature).collect();
        r.rack = registration.rack.as_deref().map(StrBytes::from);
        r.previous_broker_epoch = registration.stopped_in.map_or(-1, |epoch| epoch.0);
        let mut extra = BytesMut::new();
        extra.put_u32(registration.shards);
        let build = &registration.build.as_bytes()[..registration.build.len().min(255)];
        extra.put_u8(build.len() as u8);
        extra.put_slice(build);
        put_partitions(&registration.needs_repair, &mut extra);
        r.unknown_tagged_fields = keys::tags([(EXTRA, extra.freeze())]);
    })
}

fn listener(endpoint: &Endpoint) -> Listener {
    build(|l: &mut Listener| {
        l.name = StrBytes::from(endpoint.listener.as_str());
        l.host = StrBytes::from(endpoint.host.as_str());
        l.port = endpoint.port;
        l.security_protocol = endpoint.security;
    })
}

fn feature(range: &FeatureRange) -> Feature {
    build(|f: &mut Feature| {
        f.name = StrBytes::from(range.name.as_str());
        f.min_supported_version = range.min;
        f.max_supported_version = range.max;
    })
}

pub fn to_registration(r: &BrokerRegistrationRequest) -> Option<ControlRequest> {
    let mut extra = keys::tagged(&r.unknown_tagged_fields, EXTRA)?;
    let shards = extra.try_get_u32().ok()?;
    let length = usize::from(extra.try_get_u8().ok()?);
    let build = (extra.len() >= length).then(|| extra.split_to(length))?;
    let endpoint = |l: &Listener| Endpoint {
        listener: l.name.to_string(),
        host: l.host.to_string(),
        port: l.port,
        security: l.security_protocol,
    };
    let feature = |f: &Feature| FeatureRange {
        name: f.name.to_string(),
        min: f.min_supported_version,
        max: f.max_supported_version,
    };
    Some(ControlRequest::Register(Box::new(Registration {
        cluster: r.cluster_id.to_string(),
        id: (r.broker_id >= 0).then_some(r.broker_id),
        incarnation: r.incarnation_id.to_bytes(),
        directory: r.log_dirs.first()?.to_bytes(),
        endpoints: r.listeners.iter().map(endpoint).collect(),
        rack: r.rack.as_ref().map(ToString::to_string),
        shards,
        features: r.features.iter().map(feature).collect(),
        build: String::from_utf8_lossy(&build).into_owned(),
        stopped_in: (r.previous_broker_epoch >= 0).then_some(BrokerEpoch(r.previous_broker_epoch)),
        needs_repair: take_partitions(extra)?,
    })))
}

pub fn heartbeat(heartbeat: &Heartbeat) -> BrokerHeartbeatRequest {
    build(|r: &mut BrokerHeartbeatRequest| {
        r.broker_id = heartbeat.id;
        r.broker_epoch = heartbeat.epoch.0;
        r.current_metadata_offset = heartbeat.applied as i64;
        r.want_fence = heartbeat.wants_fence;
        r.want_shut_down = heartbeat.wants_shutdown;
        let repairs = Some(&heartbeat.needs_repair).filter(|repairs| !repairs.is_empty()).map(|repairs| {
            let mut extra = BytesMut::new();
            put_partitions(repairs, &mut extra);
            (EXTRA, extra.freeze())
        });
        let load = heartbeat.load.as_ref().map(|load| (LOAD, loads::put(load)));
        r.unknown_tagged_fields = keys::tags(repairs.into_iter().chain(load));
    })
}

pub fn to_heartbeat(r: &BrokerHeartbeatRequest) -> Option<ControlRequest> {
    let repairs = keys::tagged(&r.unknown_tagged_fields, EXTRA);
    let load = keys::tagged(&r.unknown_tagged_fields, LOAD);
    Some(ControlRequest::Heartbeat(Heartbeat {
        id: r.broker_id,
        epoch: BrokerEpoch(r.broker_epoch),
        applied: u64::try_from(r.current_metadata_offset).unwrap_or(0),
        wants_fence: r.want_fence,
        wants_shutdown: r.want_shut_down,
        needs_repair: repairs.map_or(Some(Vec::new()), take_partitions)?,
        load: load.map_or(Some(None), |load| loads::take(load).map(Some))?,
    }))
}

pub fn alter(alter: &AlterPartitions) -> AlterPartitionRequest {
    let mut topics: BTreeMap<_, Vec<&IsrChange>> = BTreeMap::new();
    for change in &alter.changes {
        topics.entry(change.id.topic).or_default().push(change);
    }
    build(|r: &mut AlterPartitionRequest| {
        r.broker_id = alter.broker;
        r.broker_epoch = alter.epoch.0;
        let topic = |(id, changes): (_, Vec<&IsrChange>)| {
            build(|t: &mut TopicData| {
                t.topic_id = uuid(id);
                t.partitions = changes.into_iter().map(change).collect();
            })
        };
        r.topics = topics.into_iter().map(topic).collect();
        r.unknown_tagged_fields = keys::tags([(EXTRA, keys::offset_tag(alter.applied))]);
    })
}

fn change(change: &IsrChange) -> PartitionData {
    build(|p: &mut PartitionData| {
        p.partition_index = change.id.index;
        p.leader_epoch = change.leader_epoch.0;
        p.partition_epoch = change.partition_epoch.0;
        p.leader_recovery_state = i8::from(change.recovering);
        let member = |(id, epoch): &(BrokerId, BrokerEpoch)| {
            build(|b: &mut BrokerState| (b.broker_id, b.broker_epoch) = (*id, epoch.0))
        };
        p.new_isr_with_epochs = change.isr.iter().map(member).collect();
    })
}

pub fn to_alter(r: &AlterPartitionRequest) -> Option<ControlRequest> {
    let changes = r.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|p| IsrChange {
            id: PartitionId { topic: topic_id(topic.topic_id), index: p.partition_index },
            leader_epoch: LeaderEpoch(p.leader_epoch),
            partition_epoch: PartitionEpoch(p.partition_epoch),
            isr: p.new_isr_with_epochs.iter().map(|b| (b.broker_id, BrokerEpoch(b.broker_epoch))).collect(),
            recovering: p.leader_recovery_state != 0,
        })
    });
    Some(ControlRequest::AlterPartitions(AlterPartitions {
        broker: r.broker_id,
        epoch: BrokerEpoch(r.broker_epoch),
        applied: keys::offset_of(&keys::tagged(&r.unknown_tagged_fields, EXTRA)?)?,
        changes: changes.collect(),
    }))
}

pub fn producer_ids(broker: BrokerId, epoch: BrokerEpoch) -> AllocateProducerIdsRequest {
    build(|r: &mut AllocateProducerIdsRequest| (r.broker_id, r.broker_epoch) = (broker, epoch.0))
}

pub fn to_producer_ids(r: &AllocateProducerIdsRequest) -> ControlRequest {
    ControlRequest::ProducerIds { broker: r.broker_id, epoch: BrokerEpoch(r.broker_epoch) }
}

pub fn create_topics(topics: &[NewTopic]) -> CreateTopicsRequest {
    build(|r: &mut CreateTopicsRequest| r.topics = topics.iter().map(creatable).collect())
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    build(|t: &mut CreatableTopic| {
        t.name = StrBytes::from(topic.name.as_str());
        t.num_partitions = topic.partitions;
        t.replication_factor = topic.replication_factor;
        let config = |(name, value): &(String, Option<String>)| {
            build(|c: &mut CreatableTopicConfig| {
                c.name = StrBytes::from(name.as_str());
                c.value = value.as_deref().map(StrBytes::from);
            })
        };
        t.configs = topic.configs.iter().map(config).collect();
    })
}

pub fn to_create_topics(r: &CreateTopicsRequest) -> ControlRequest {
    ControlRequest::CreateTopics {
        topics: r.topics.iter().map(new_topic).collect(),
        validate_only: r.validate_only,
    }
}

fn put_partitions(partitions: &[PartitionId], out: &mut BytesMut) {
    for partition in partitions.iter().take(MOST_REPAIRS) {
        out.put_slice(&partition.topic.0);
        out.put_i32(partition.index);
    }
}

fn take_partitions(mut from: Bytes) -> Option<Vec<PartitionId>> {
    let mut partitions = Vec::with_capacity(from.len() / 20);
    while !from.is_empty() {
        let mut id = [0; 16];
        from.try_copy_to_slice(&mut id).ok()?;
        let index = from.try_get_i32().ok()?;
        partitions.push(PartitionId { topic: crate::model::TopicId(id), index });
    }
    Some(partitions)
}
