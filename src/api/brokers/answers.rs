//! What the controller answers to brokers as messages, and back.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::alter_partition_response::{PartitionData, TopicData};
use kafka_wire::create_topics_response::CreatableTopicResult;
use kafka_wire::{
    AllocateProducerIdsResponse, AlterPartitionResponse, BrokerHeartbeatResponse, BrokerRegistrationResponse,
    CreateTopicsResponse,
};
use kafka_wire_core::{ApiVersion, KafkaEncode, StrBytes, TaggedFields};

use super::super::common::{NO_LEADER, build, code, topic_id, uuid, whole_error};
use super::errors::{error, kind, refusal, refusal_code};
use super::versions::{
    ALTER_PARTITION, CREATE_TOPICS, EXTRA, HEARTBEAT, ID, PRODUCER_IDS, REGISTRATION, WHY,
};
use crate::controller::{
    AlterPartitions, ControlError, ControlErrorKind, ControlReply, ControlRequest, Heard, IsrRefusal,
    NewTopic, PartitionState, ProducerIdBlock,
};
use crate::metadata::Image;
use crate::model::{BrokerEpoch, LeaderEpoch, PartitionEpoch, PartitionId, TopicId};
use crate::peer::keys;

/// What another broker answered.
pub struct Told {
    /// Has to be applied here before anybody hears the answer.
    pub applied: u64,
    said: Said,
}

enum Said {
    Reply(ControlReply),
    /// The topics are those of the metadata.
    Created(Vec<Result<TopicId, ControlError>>),
}

impl Told {
    /// The answer, on an image that has what it rests on.
    pub fn reply(self, image: &Image) -> ControlReply {
        let topic = |id: TopicId| {
            let gone =
                || ControlError::new(ControlErrorKind::UnknownTopicId, "the topic was deleted meanwhile");
            image.topic_by_id(id).cloned().ok_or_else(gone)
        };
        match self.said {
            Said::Reply(reply) => reply,
            Said::Created(results) => {
                ControlReply::CreateTopics(results.into_iter().map(|result| result.and_then(topic)).collect())
            }
        }
    }

    /// Whoever was asked is not the controller, or knows less than who asked.
    pub fn is_elsewhere(&self) -> bool {
        let elsewhere = |error: &ControlError| error.kind == ControlErrorKind::NotController;
        match &self.said {
            Said::Reply(ControlReply::Failed(error) | ControlReply::ProducerIds(Err(error))) => {
                elsewhere(error)
            }
            Said::Reply(_) => false,
            Said::Created(results) => {
                !results.is_empty() && results.iter().all(|result| result.as_ref().is_err_and(elsewhere))
            }
        }
    }
}

/// The tags of an answer, with why it is an error.
fn tags(applied: u64, id: Option<i32>, why: Option<&ControlError>) -> TaggedFields {
    let id = id.map(|id| (ID, Bytes::copy_from_slice(&id.to_be_bytes())));
    let why = why.map(|error| {
        let text = error.message.as_bytes();
        (WHY, Bytes::copy_from_slice(&text[..text.len().min(1024)]))
    });
    keys::tags([(EXTRA, keys::offset_tag(applied))].into_iter().chain(id).chain(why))
}

fn told(fields: &TaggedFields, said: Said) -> Told {
    let applied = keys::tagged(fields, EXTRA).and_then(|data| keys::offset_of(&data)).unwrap_or(0);
    Told { applied, said }
}

/// The error of a whole answer.
fn failed(code: i16, fields: &TaggedFields) -> Option<ControlError> {
    (code != 0).then(|| error(code, keys::tagged(fields, WHY)))
}

/// An answer as the bytes behind its correlation id.
pub fn encode(request: &ControlRequest, reply: ControlReply, applied: u64) -> Bytes {
    match (request, reply) {
        (ControlRequest::Heartbeat(_), reply) => bytes(&heartbeat_answer(reply, applied), HEARTBEAT),
        (ControlRequest::AlterPartitions(alter), reply) => {
            bytes(&alter_answer(alter, reply, applied), ALTER_PARTITION)
        }
        (ControlRequest::ProducerIds { .. }, reply) => {
            bytes(&producer_ids_answer(reply, applied), PRODUCER_IDS)
        }
        (ControlRequest::CreateTopics { topics, .. }, reply) => {
            bytes(&create_answer(topics, reply, applied), CREATE_TOPICS)
        }
        (_, reply) => bytes(&registration_answer(reply, applied), REGISTRATION),
    }
}

fn bytes<R: KafkaEncode>(response: &R, version: i16) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    // Every one of them is flexible: the header has tags.
    out.put_u8(0);
    let whole = out.len();
    if let Err(e) = response.encode_into(&mut out, ApiVersion::new(version)) {
        log::error!("an answer to a broker does not encode: {e}");
        out.truncate(whole);
    }
    out.freeze()
}

fn registration_answer(reply: ControlReply, applied: u64) -> BrokerRegistrationResponse {
    build(|r: &mut BrokerRegistrationResponse| match reply {
        ControlReply::Registered { id, epoch } => {
            r.broker_epoch = epoch.0;
            r.unknown_tagged_fields = tags(applied, Some(id), None);
        }
        other => {
            let error = whole_error(other);
            r.error_code = code(&error).code();
            r.unknown_tagged_fields = tags(applied, None, Some(&error));
        }
    })
}

pub fn registered(r: BrokerRegistrationResponse) -> Told {
    let id = keys::tagged(&r.unknown_tagged_fields, ID)
        .and_then(|data| Some(i32::from_be_bytes(*data.first_chunk()?)));
    let reply = match (failed(r.error_code, &r.unknown_tagged_fields), id) {
        (Some(error), _) => ControlReply::Failed(error),
        (None, Some(id)) => ControlReply::Registered { id, epoch: BrokerEpoch(r.broker_epoch) },
        (None, None) => ControlReply::Failed(error(-1, None)),
    };
    told(&r.unknown_tagged_fields, Said::Reply(reply))
}

fn heartbeat_answer(reply: ControlReply, applied: u64) -> BrokerHeartbeatResponse {
    build(|r: &mut BrokerHeartbeatResponse| match reply {
        ControlReply::Heard(heard) => {
            (r.is_caught_up, r.is_fenced, r.should_shut_down) =
                (heard.caught_up, heard.fenced, heard.may_stop);
            r.unknown_tagged_fields = tags(applied, None, None);
        }
        other => {
            let error = whole_error(other);
            r.error_code = code(&error).code();
            r.unknown_tagged_fields = tags(applied, None, Some(&error));
        }
    })
}

pub fn heard(r: BrokerHeartbeatResponse) -> Told {
    let heard = Heard { caught_up: r.is_caught_up, fenced: r.is_fenced, may_stop: r.should_shut_down };
    let reply = failed(r.error_code, &r.unknown_tagged_fields)
        .map_or(ControlReply::Heard(heard), ControlReply::Failed);
    told(&r.unknown_tagged_fields, Said::Reply(reply))
}

fn alter_answer(alter: &AlterPartitions, reply: ControlReply, applied: u64) -> AlterPartitionResponse {
    build(|r: &mut AlterPartitionResponse| match reply {
        ControlReply::AlteredPartitions(results) => {
            let mut topics: BTreeMap<TopicId, Vec<PartitionData>> = BTreeMap::new();
            for (change, result) in alter.changes.iter().zip(results) {
                topics.entry(change.id.topic).or_default().push(state(change.id.index, result));
            }
            let topic = |(id, partitions)| {
                build(|t: &mut TopicData| {
                    t.topic_id = uuid(id);
                    t.partitions = partitions;
                })
            };
            r.topics = topics.into_iter().map(topic).collect();
            r.unknown_tagged_fields = tags(applied, None, None);
        }
        other => {
            let error = whole_error(other);
            r.error_code = code(&error).code();
            r.unknown_tagged_fields = tags(applied, None, Some(&error));
        }
    })
}

fn state(index: i32, result: Result<PartitionState, IsrRefusal>) -> PartitionData {
    build(|p: &mut PartitionData| {
        p.partition_index = index;
        match result {
            Ok(state) => {
                p.leader_id = state.leader.unwrap_or(NO_LEADER);
                (p.leader_epoch, p.partition_epoch) = (state.leader_epoch.0, state.partition_epoch.0);
                p.isr = state.isr;
                p.leader_recovery_state = i8::from(state.recovering);
            }
            Err(why) => p.error_code = refusal_code(why),
        }
    })
}

pub fn altered(alter: &AlterPartitions, r: AlterPartitionResponse) -> Told {
    if let Some(error) = failed(r.error_code, &r.unknown_tagged_fields) {
        return told(&r.unknown_tagged_fields, Said::Reply(ControlReply::Failed(error)));
    }
    let mut found = BTreeMap::new();
    for topic in r.topics {
        for p in topic.partitions {
            let id = PartitionId { topic: topic_id(topic.topic_id), index: p.partition_index };
            let state = match p.error_code {
                0 => Ok(PartitionState {
                    leader: (p.leader_id != NO_LEADER).then_some(p.leader_id),
                    leader_epoch: LeaderEpoch(p.leader_epoch),
                    partition_epoch: PartitionEpoch(p.partition_epoch),
                    isr: p.isr,
                    recovering: p.leader_recovery_state != 0,
                }),
                code => Err(refusal(code)),
            };
            found.insert(id, state);
        }
    }
    let mut result = |id| found.remove(&id).unwrap_or(Err(IsrRefusal::UnknownPartition));
    let results = alter.changes.iter().map(|change| result(change.id)).collect();
    told(&r.unknown_tagged_fields, Said::Reply(ControlReply::AlteredPartitions(results)))
}

fn producer_ids_answer(reply: ControlReply, applied: u64) -> AllocateProducerIdsResponse {
    let block = match reply {
        ControlReply::ProducerIds(block) => block,
        other => Err(whole_error(other)),
    };
    build(|r: &mut AllocateProducerIdsResponse| {
        match &block {
            Ok(block) => (r.producer_id_start, r.producer_id_len) = (block.first, block.len),
            Err(error) => r.error_code = code(error).code(),
        }
        r.unknown_tagged_fields = tags(applied, None, block.as_ref().err());
    })
}

pub fn producer_ids(r: AllocateProducerIdsResponse) -> Told {
    let block = ProducerIdBlock { first: r.producer_id_start, len: r.producer_id_len };
    let block = failed(r.error_code, &r.unknown_tagged_fields).map_or(Ok(block), Err);
    told(&r.unknown_tagged_fields, Said::Reply(ControlReply::ProducerIds(block)))
}

fn create_answer(topics: &[NewTopic], reply: ControlReply, applied: u64) -> CreateTopicsResponse {
    let results = match reply {
        ControlReply::CreateTopics(results) => results,
        other => {
            let error = whole_error(other);
            topics.iter().map(|_| Err(error.clone())).collect()
        }
    };
    build(|r: &mut CreateTopicsResponse| {
        let one =
            |(asked, result): (&NewTopic, Result<std::sync::Arc<crate::metadata::Topic>, ControlError>)| {
                build(|t: &mut CreatableTopicResult| {
                    t.name = StrBytes::from(asked.name.as_str());
                    match result {
                        Ok(topic) => t.topic_id = uuid(topic.id),
                        Err(error) => {
                            t.error_code = code(&error).code();
                            t.error_message = Some(StrBytes::from(error.message.as_str()));
                        }
                    }
                })
            };
        r.topics = topics.iter().zip(results).map(one).collect();
        r.unknown_tagged_fields = tags(applied, None, None);
    })
}

pub fn created(topics: &[NewTopic], r: CreateTopicsResponse) -> Told {
    let mut results: Vec<_> = r
        .topics
        .iter()
        .map(|topic| match topic.error_code {
            0 => Ok(topic_id(topic.topic_id)),
            code => {
                let message = topic.error_message.as_ref().map(ToString::to_string).unwrap_or_default();
                Err(ControlError::new(kind(code), message))
            }
        })
        .collect();
    results.resize_with(topics.len(), || Err(error(-1, None)));
    told(&r.unknown_tagged_fields, Said::Created(results))
}
