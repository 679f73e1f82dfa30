//! Consumer groups, seen from administration: who is in them, what they have committed, and changing that.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use kafka_wire::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetFetchRequest, RequestResponsePair, decode_consumer_protocol_assignment,
};
use kafka_wire_core::{DecodeLimits, StrBytes};

use super::{Client, ClientError, Connection, KafkaError, message};
use crate::wire::error_code::ErrorCode;

/// How long a coordinator may take to be found and loaded.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
/// From here on a request names several keys or groups.
const FIND_BATCHED_FROM: i16 = 4;
const FETCH_GROUPS_FROM: i16 = 8;
/// From here on topics are named by ids, which say nothing of topics that are gone.
const OFFSETS_BY_NAME_UNTIL: i16 = 9;

/// A partition of a topic.
pub type TopicPartition = (String, i32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    pub group: String,
    pub state: String,
    pub protocol_type: String,
}

#[derive(Clone, Debug)]
pub struct GroupMember {
    pub id: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub host: String,
    /// `None` where the assignment is not a consumer's, or cannot be read.
    pub assigned: Option<Vec<TopicPartition>>,
}

#[derive(Clone, Debug)]
pub struct GroupInfo {
    pub group: String,
    pub state: String,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<GroupMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    pub at: TopicPartition,
    pub offset: i64,
    pub metadata: String,
}

/// On whose behalf offsets are committed.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    pub member: &'a str,
    pub generation: i32,
}

impl Committer<'_> {
    /// Nobody's: allowed while the group has no members.
    pub const NOBODY: Committer<'static> = Committer { member: "", generation: -1 };
}

impl Client {
    /// The groups of the broker that is being talked to, by name.
    pub fn list_groups(&mut self) -> Result<Vec<GroupListing>, ClientError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let response = self.entry()?.call(&ListGroupsRequest::default())?;
            if is_settling(response.error_code) && Instant::now() < until {
                std::thread::sleep(PAUSE);
                continue;
            }
            KafkaError::check(response.error_code, None).map_err(ClientError::kafka("list groups"))?;
            let mut groups: Vec<GroupListing> = response
                .groups
                .iter()
                .map(|g| GroupListing {
                    group: g.group_id.to_string(),
                    state: g.group_state.to_string(),
                    protocol_type: g.protocol_type.to_string(),
                })
                .collect();
            groups.sort_by(|a, b| a.group.cmp(&b.group));
            return Ok(groups);
        }
    }

    /// `None` if there is no such group.
    pub fn describe_group(&mut self, group: &str) -> Result<Option<GroupInfo>, ClientError> {
        let request = message::<DescribeGroupsRequest>(|r| r.groups = vec![StrBytes::from(group)]);
        let code = |r: &kafka_wire::DescribeGroupsResponse| r.groups.first().map_or(-1, |g| g.error_code);
        let response = self.coordinate(group, &request, Duration::ZERO, code)?;
        let Some(described) = response.groups.into_iter().next() else { return Ok(None) };
        let missing = described.error_code == ErrorCode::GroupIdNotFound.code();
        if missing || (described.error_code == 0 && &*described.group_state == "Dead") {
            return Ok(None);
        }
        KafkaError::check(described.error_code, described.error_message.as_deref())
            .map_err(ClientError::kafka(format!("describe group {group}")))?;
        let members = described.members.iter().map(|m| GroupMember {
            id: m.member_id.to_string(),
            instance: m.group_instance_id.as_ref().map(|id| id.to_string()),
            client_id: m.client_id.to_string(),
            host: m.client_host.trim_start_matches('/').to_string(),
            assigned: read_assignment(m.member_assignment.clone()),
        });
        Ok(Some(GroupInfo {
            group: group.to_owned(),
            state: described.group_state.to_string(),
            protocol_type: described.protocol_type.to_string(),
            protocol: described.protocol_data.to_string(),
            members: members.collect(),
        }))
    }

    /// What a group has committed, in order.
    pub fn group_offsets(&mut self, group: &str) -> Result<Vec<GroupOffset>, ClientError> {
        let what = format!("offsets of group {group}");
        let until = Instant::now() + PATIENCE;
        loop {
            let coordinator = self.coordinator(group)?;
            let version = coordinator.version_of::<OffsetFetchRequest>()?.min(OFFSETS_BY_NAME_UNTIL);
            let request = message::<OffsetFetchRequest>(|r| {
                if version >= FETCH_GROUPS_FROM {
                    r.groups = vec![message::<OffsetFetchRequestGroup>(|g| {
                        g.group_id = StrBytes::from(group);
                        g.topics = None;
                        g.member_epoch = -1;
                    })];
                } else {
                    r.group_id = StrBytes::from(group);
                    r.topics = None::<Vec<OffsetFetchRequestTopic>>;
                }
            });
            let response = coordinator.call_at(&request, version)?;
            let code = response.groups.first().map_or(response.error_code, |g| g.error_code);
            if is_settling(code) && Instant::now() < until {
                std::thread::sleep(PAUSE);
                continue;
            }
            KafkaError::check(code, None).map_err(ClientError::kafka(what))?;
            let mut offsets = Vec::new();
            for topic in response.groups.iter().flat_map(|g| &g.topics) {
                for p in topic.partitions.iter().filter(|p| p.committed_offset >= 0) {
                    offsets.push(one_offset(&topic.name, p.partition_index, p.committed_offset, &p.metadata));
                }
            }
            for topic in &response.topics {
                for p in topic.partitions.iter().filter(|p| p.committed_offset >= 0) {
                    offsets.push(one_offset(&topic.name, p.partition_index, p.committed_offset, &p.metadata));
                }
            }
            offsets.sort_by(|a, b| a.at.cmp(&b.at));
            return Ok(offsets);
        }
    }

    /// Commits offsets of a group.
    pub fn commit_offsets(
        &mut self,
        group: &str,
        from: Committer<'_>,
        offsets: &[(TopicPartition, i64)],
    ) -> Result<(), ClientError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let coordinator = self.coordinator(group)?;
            let version = coordinator.version_of::<OffsetCommitRequest>()?.min(OFFSETS_BY_NAME_UNTIL);
            let response = coordinator.call_at(&commit_request(group, from, offsets), version)?;
            let mut failed = response.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|p| (&topic.name, p.partition_index, p.error_code))
            });
            match failed.find(|(.., code)| *code != 0) {
                None => return Ok(()),
                Some((.., code)) if is_settling(code) && Instant::now() < until => std::thread::sleep(PAUSE),
                Some((topic, partition, code)) => {
                    let what = format!("commit offset of partition {partition} of {}", topic.as_str());
                    return KafkaError::check(code, None).map_err(ClientError::kafka(what));
                }
            }
        }
    }

    pub fn delete_group(&mut self, group: &str) -> Result<(), ClientError> {
        let request = message::<DeleteGroupsRequest>(|r| r.groups_names = vec![StrBytes::from(group)]);
        let code = |r: &kafka_wire::DeleteGroupsResponse| r.results.first().map_or(-1, |g| g.error_code);
        let response = self.coordinate(group, &request, Duration::ZERO, code)?;
        KafkaError::check(code(&response), None).map_err(ClientError::kafka(format!("delete group {group}")))
    }

    /// Sends to a group's coordinator, and again where it has moved or is being loaded.
    pub(super) fn coordinate<R: RequestResponsePair>(
        &mut self,
        group: &str,
        request: &R,
        patience: Duration,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let response = self.coordinator(group)?.call_waiting(request, patience)?;
            if !is_settling(code(&response)) || Instant::now() >= until {
                return Ok(response);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The connection to a group's coordinator.
    pub(super) fn coordinator(&mut self, group: &str) -> Result<&mut Connection, ClientError> {
        let what = format!("coordinator of group {group}");
        let until = Instant::now() + PATIENCE;
        loop {
            let batched = self.entry()?.version_of::<FindCoordinatorRequest>()? >= FIND_BATCHED_FROM;
            let request = message::<FindCoordinatorRequest>(|r| match batched {
                true => r.coordinator_keys = vec![StrBytes::from(group)],
                false => r.key = StrBytes::from(group),
            });
            let response = self.entry()?.call(&request)?;
            let (code, node, host, port) = match response.coordinators.first() {
                Some(c) => (c.error_code, c.node_id, &c.host, c.port),
                None => (response.error_code, response.node_id, &response.host, response.port),
            };
            if is_settling(code) && Instant::now() < until {
                std::thread::sleep(PAUSE);
                continue;
            }
            KafkaError::check(code, None).map_err(ClientError::kafka(what))?;
            let (node, host) = (node, host.to_string());
            return self.broker_at(node, &host, port);
        }
    }
}

/// The coordinator is not there yet: the same request may succeed soon.
fn is_settling(code: i16) -> bool {
    let settling =
        [ErrorCode::CoordinatorLoadInProgress, ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator];
    settling.iter().any(|error| error.code() == code)
}

fn one_offset(topic: &str, partition: i32, offset: i64, metadata: &Option<StrBytes>) -> GroupOffset {
    let metadata = metadata.as_ref().map_or(String::new(), |text| text.to_string());
    GroupOffset { at: (topic.to_owned(), partition), offset, metadata }
}

fn commit_request(
    group: &str,
    from: Committer<'_>,
    offsets: &[(TopicPartition, i64)],
) -> OffsetCommitRequest {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for ((topic, partition), offset) in offsets {
        let committed = message::<OffsetCommitRequestPartition>(|p| {
            p.partition_index = *partition;
            p.committed_offset = *offset;
            p.committed_leader_epoch = -1;
            p.committed_metadata = Some(StrBytes::default());
        });
        match topics.iter_mut().find(|t| *t.name == **topic) {
            Some(known) => known.partitions.push(committed),
            None => topics.push(message::<OffsetCommitRequestTopic>(|t| {
                t.name = StrBytes::from(topic.as_str());
                t.partitions = vec![committed];
            })),
        }
    }
    message::<OffsetCommitRequest>(|r| {
        r.group_id = StrBytes::from(group);
        r.generation_id_or_member_epoch = from.generation;
        r.member_id = StrBytes::from(from.member);
        r.topics = topics;
    })
}

/// The partitions in a consumer's assignment.
pub(super) fn read_assignment(bytes: Bytes) -> Option<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (_, assignment) = decode_consumer_protocol_assignment(bytes, DecodeLimits::default()).ok()?;
    let mut partitions: Vec<TopicPartition> = assignment
        .assigned_partitions
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|p| (topic.topic.to_string(), *p)))
        .collect();
    partitions.sort();
    Some(partitions)
}
