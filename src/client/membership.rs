//! Being a member of a consumer group: the classic protocol with the `range` assignor, for `weir consume --group`.
//!
//! One thread does everything: whoever owns a [`Membership`] calls [`Membership::poll`] between its fetches, which
//! sends heartbeats and joins again when the group says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::consumer_protocol_assignment::TopicPartition as Assigned;
use kafka_wire::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::leave_group_request::MemberIdentity;
use kafka_wire::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest, decode_consumer_protocol_subscription,
    encode_consumer_protocol_assignment, encode_consumer_protocol_subscription,
};
use kafka_wire_core::{ApiVersion, DecodeLimits, StrBytes};

use super::groups::{TopicPartition, read_assignment};
use super::{Client, ClientError, Committer, KafkaError, message};
use crate::wire::error_code::ErrorCode;

const SESSION: Duration = Duration::from_secs(10);
/// How long members may take to join again; long enough for whoever prints a record slowly.
const REBALANCE: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How long a JoinGroup may wait: the broker waits for the slowest member of all.
const JOIN_PATIENCE: Duration = Duration::from_secs(330);
const PROTOCOL_TYPE: &str = "consumer";
const RANGE: &str = "range";
const LEAVE_BATCHED_FROM: i16 = 3;
const SUBSCRIPTION_VERSION: ApiVersion = ApiVersion::new(0);

pub struct Membership {
    group: String,
    topic: String,
    member: String,
    generation: i32,
    assigned: Vec<TopicPartition>,
    next_heartbeat: Instant,
}

/// What happened to a member since it last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Unchanged,
    /// What it is to read changed; what it had printed before must be committed already.
    Reassigned,
}

impl Membership {
    /// Joins the group as a reader of one topic.
    pub fn join(client: &mut Client, group: &str, topic: &str) -> Result<Membership, ClientError> {
        let mut membership = Membership {
            group: group.to_owned(),
            topic: topic.to_owned(),
            member: String::new(),
            generation: -1,
            assigned: Vec::new(),
            next_heartbeat: Instant::now(),
        };
        membership.rejoin(client)?;
        Ok(membership)
    }

    /// The partitions of the topic that are this member's.
    pub fn partitions(&self) -> Vec<i32> {
        self.assigned.iter().filter(|(topic, _)| *topic == self.topic).map(|(_, p)| *p).collect()
    }

    pub fn commit(&self, client: &mut Client, offsets: &[(i32, i64)]) -> Result<(), ClientError> {
        let offsets: Vec<(TopicPartition, i64)> =
            offsets.iter().map(|(p, offset)| ((self.topic.clone(), *p), *offset)).collect();
        let from = Committer { member: &self.member, generation: self.generation };
        client.commit_offsets(&self.group, from, &offsets)
    }

    /// Sends a heartbeat if one is due. `true`: the group wants everybody to join again, with [`Self::rejoin`].
    pub fn is_rebalancing(&mut self, client: &mut Client) -> Result<bool, ClientError> {
        if Instant::now() < self.next_heartbeat {
            return Ok(false);
        }
        self.next_heartbeat = Instant::now() + HEARTBEAT;
        let request = message::<HeartbeatRequest>(|r| {
            r.group_id = StrBytes::from(self.group.as_str());
            r.member_id = StrBytes::from(self.member.as_str());
            r.generation_id = self.generation;
        });
        let response = client.coordinate(&self.group, &request, Duration::ZERO, |r| r.error_code)?;
        if response.error_code == ErrorCode::UnknownMemberId.code() {
            self.member.clear();
        }
        match response.error_code {
            0 => Ok(false),
            code if starts_over(code) => Ok(true),
            code => Err(ClientError::kafka(format!("heartbeat to group {}", self.group))(KafkaError {
                code,
                message: None,
            })),
        }
    }

    /// Joins the next generation and learns what is to be read in it.
    pub fn rejoin(&mut self, client: &mut Client) -> Result<Standing, ClientError> {
        let before = std::mem::take(&mut self.assigned);
        loop {
            let Some(joined) = self.join_once(client)? else { continue };
            let assignments = if joined.leader == joined.member_id && !joined.members.is_empty() {
                assign(client, &joined)?
            } else {
                Vec::new()
            };
            if self.sync(client, &joined, assignments)? {
                break;
            }
        }
        self.next_heartbeat = Instant::now() + HEARTBEAT;
        Ok(if self.assigned == before { Standing::Unchanged } else { Standing::Reassigned })
    }

    fn join_once(&mut self, client: &mut Client) -> Result<Option<JoinGroupResponse>, ClientError> {
        let request = message::<JoinGroupRequest>(|r| {
            r.group_id = StrBytes::from(self.group.as_str());
            r.session_timeout_ms = SESSION.as_millis() as i32;
            r.rebalance_timeout_ms = REBALANCE.as_millis() as i32;
            r.member_id = StrBytes::from(self.member.as_str());
            r.protocol_type = StrBytes::from(PROTOCOL_TYPE);
            r.protocols = vec![message::<JoinGroupRequestProtocol>(|p| {
                p.name = StrBytes::from(RANGE);
                p.metadata = subscription(&self.topic);
            })];
        });
        let response = client.coordinate(&self.group, &request, JOIN_PATIENCE, |r| r.error_code)?;
        if response.error_code == 0 || response.error_code == ErrorCode::MemberIdRequired.code() {
            self.member = response.member_id.to_string();
        }
        match response.error_code {
            0 => {
                self.generation = response.generation_id;
                Ok(Some(response))
            }
            code if code == ErrorCode::MemberIdRequired.code() => Ok(None),
            code if starts_over(code) => {
                self.member.clear();
                Ok(None)
            }
            code => KafkaError::check(code, None)
                .map(|()| None)
                .map_err(ClientError::kafka(format!("join group {}", self.group))),
        }
    }

    /// Gets the assignment; `false` if the group has moved on meanwhile.
    fn sync(
        &mut self,
        client: &mut Client,
        joined: &JoinGroupResponse,
        assignments: Vec<SyncGroupRequestAssignment>,
    ) -> Result<bool, ClientError> {
        let request = message::<SyncGroupRequest>(|r| {
            r.group_id = StrBytes::from(self.group.as_str());
            r.generation_id = joined.generation_id;
            r.member_id = joined.member_id.clone();
            r.protocol_type = Some(StrBytes::from(PROTOCOL_TYPE));
            r.protocol_name = Some(StrBytes::from(RANGE));
            r.assignments = assignments;
        });
        let response = client.coordinate(&self.group, &request, REBALANCE, |r| r.error_code)?;
        match response.error_code {
            0 => {
                self.assigned = read_assignment(response.assignment).unwrap_or_default();
                Ok(true)
            }
            code if starts_over(code) => {
                if code != ErrorCode::RebalanceInProgress.code() {
                    self.member.clear();
                }
                Ok(false)
            }
            code => KafkaError::check(code, None)
                .map(|()| false)
                .map_err(ClientError::kafka(format!("sync with group {}", self.group))),
        }
    }

    /// Leaves, so that the others need not wait for the session to end.
    pub fn leave(self, client: &mut Client) -> Result<(), ClientError> {
        let batched =
            client.coordinator(&self.group)?.version_of::<LeaveGroupRequest>()? >= LEAVE_BATCHED_FROM;
        let request = message::<LeaveGroupRequest>(|r| {
            r.group_id = StrBytes::from(self.group.as_str());
            let member = StrBytes::from(self.member.as_str());
            match batched {
                true => r.members = vec![message::<MemberIdentity>(|m| m.member_id = member)],
                false => r.member_id = member,
            }
        });
        client.coordinate(&self.group, &request, Duration::ZERO, |r| r.error_code).map(drop)
    }
}

/// The member has to join again.
fn starts_over(code: i16) -> bool {
    let again = [ErrorCode::RebalanceInProgress, ErrorCode::IllegalGeneration, ErrorCode::UnknownMemberId];
    again.iter().any(|error| error.code() == code)
}

fn subscription(topic: &str) -> Bytes {
    let subscription = message::<ConsumerProtocolSubscription>(|s| s.topics = vec![StrBytes::from(topic)]);
    let mut out = BytesMut::new();
    encode_consumer_protocol_subscription(&mut out, &subscription, SUBSCRIPTION_VERSION)
        .expect("a subscription to one topic fits");
    out.freeze()
}

/// The leader's work: each topic's partitions in ranges to the members that read it, in order of their ids.
fn assign(
    client: &mut Client,
    joined: &JoinGroupResponse,
) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
    let mut readers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for member in &joined.members {
        let topics = decode_consumer_protocol_subscription(member.metadata.clone(), DecodeLimits::default())
            .map_or(Vec::new(), |(_, subscription)| subscription.topics);
        for topic in topics {
            readers.entry(topic.to_string()).or_default().insert(member.member_id.to_string());
        }
    }
    let mut given: BTreeMap<String, Vec<Assigned>> =
        joined.members.iter().map(|m| (m.member_id.to_string(), Vec::new())).collect();
    for (topic, members) in &readers {
        let partitions = match client.topic(topic, false) {
            Ok(info) => info.partitions.len(),
            Err(ClientError::UnknownTopic(_)) => 0,
            Err(error) => return Err(error),
        };
        for (member, range) in members.iter().zip(ranges(partitions, members.len())) {
            let assigned = message::<Assigned>(|t| {
                t.topic = StrBytes::from(topic.as_str());
                t.partitions = range.map(|p| p as i32).collect();
            });
            if let Some(list) = given.get_mut(member)
                && !assigned.partitions.is_empty()
            {
                list.push(assigned);
            }
        }
    }
    let encode = |(member, assigned): (String, Vec<Assigned>)| {
        let assignment = message::<ConsumerProtocolAssignment>(|a| a.assigned_partitions = assigned);
        let mut out = BytesMut::new();
        encode_consumer_protocol_assignment(&mut out, &assignment, SUBSCRIPTION_VERSION)
            .map_err(|e| ClientError::Encode { what: "an assignment", detail: e.to_string() })?;
        Ok(message::<SyncGroupRequestAssignment>(|a| {
            a.member_id = StrBytes::from(member.as_str());
            a.assignment = out.freeze();
        }))
    };
    given.into_iter().map(encode).collect()
}

/// `count` things in `parts` ranges, the first ones longer by one where they cannot be equal.
fn ranges(count: usize, parts: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (each, more) = (count / parts.max(1), count % parts.max(1));
    let start = move |part: usize| part * each + part.min(more);
    (0..parts).map(move |part| start(part)..start(part + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once() {
        for (count, parts, lengths) in [(7, 3, vec![3, 2, 2]), (2, 3, vec![1, 1, 0]), (6, 3, vec![2, 2, 2])] {
            let ranges: Vec<_> = ranges(count, parts).collect();
            assert_eq!(ranges.iter().map(|r| r.len()).collect::<Vec<_>>(), lengths);
            assert!(ranges.into_iter().flatten().eq(0..count));
        }
    }

    #[test]
    fn assignments_are_read_as_they_are_written() {
        let assigned = message::<Assigned>(|t| {
            t.topic = "t".into();
            t.partitions = vec![2, 0];
        });
        let assignment = message::<ConsumerProtocolAssignment>(|a| a.assigned_partitions = vec![assigned]);
        let mut out = BytesMut::new();
        encode_consumer_protocol_assignment(&mut out, &assignment, SUBSCRIPTION_VERSION).unwrap();
        assert_eq!(read_assignment(out.freeze()), Some(vec![("t".to_string(), 0), ("t".to_string(), 2)]));
        assert_eq!(read_assignment(Bytes::from_static(b"\0")), None);
    }
}
