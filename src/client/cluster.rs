//! The cluster itself: its brokers, who agrees on its metadata, what is being moved.

use bytes::Bytes;
use kafka_wire::add_raft_voter_request::Listener;
use kafka_wire::describe_quorum_request::{PartitionData, TopicData};
use kafka_wire::describe_quorum_response::ReplicaState;
use kafka_wire::{
    AddRaftVoterRequest, AlterPartitionReassignmentsRequest, DescribeClusterRequest, DescribeClusterResponse,
    DescribeQuorumRequest, ListPartitionReassignmentsRequest, RemoveRaftVoterRequest,
    UnregisterBrokerRequest,
};
use kafka_wire_core::{TaggedField, TaggedFields, Uuid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, ClientError, KafkaError, message};
use crate::model::internal::CLUSTER_METADATA;
use crate::model::report::{
    BrokerDetails, Changes, DETAILS, DRAIN, Drain, Drained, LONGEST_WAIT_MS, VOTERS, VoterChoice, WATCH,
    Watch,
};

const TIMEOUT_MS: i32 = 30_000;

#[derive(Clone, Debug)]
pub struct ClusterInfo {
    pub id: String,
    pub nodes: Vec<Node>,
}

/// A registered broker.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: i32,
    pub address: String,
    pub rack: Option<String>,
    pub fenced: bool,
    /// Brokers of Weir tell more.
    pub details: Option<BrokerDetails>,
}

/// Who agrees on the metadata.
#[derive(Clone, Debug)]
pub struct Quorum {
    /// −1 where there is none.
    pub leader: i32,
    pub epoch: i32,
    pub high_watermark: i64,
    /// An operator chooses the voters; only brokers of Weir tell.
    pub by_hand: bool,
    pub members: Vec<QuorumMember>,
}

/// Times by the wall clock, ends of the log; −1 where they are not known.
#[derive(Clone, Debug)]
pub struct QuorumMember {
    pub id: i32,
    /// Tells a voter that came back with another disk from the one that votes; zero where it is not told.
    pub directory: [u8; 16],
    /// By the names of listeners.
    pub endpoints: Vec<(String, String, u16)>,
    pub votes: bool,
    pub end: i64,
    pub heard_ms: i64,
    pub caught_up_ms: i64,
}

/// A partition on its way to other brokers.
#[derive(Clone, Debug)]
pub struct Moving {
    pub topic: String,
    pub partition: i32,
    pub adding: Vec<i32>,
    pub removing: Vec<i32>,
}

fn tag(tag: u32, value: &impl Serialize) -> TaggedFields {
    let data = serde_json::to_vec(value).map(Bytes::from).unwrap_or_default();
    TaggedFields::from_sorted(vec![TaggedField::new(tag, data)]).unwrap_or_default()
}

fn tagged<T: DeserializeOwned>(fields: &TaggedFields, tag: u32) -> Option<T> {
    let field = fields.iter().find(|field| field.tag() == tag)?;
    serde_json::from_slice(field.data()).ok()
}

impl Client {
    fn describe_cluster(&mut self, asked: TaggedFields) -> Result<DescribeClusterResponse, ClientError> {
        let request = message::<DescribeClusterRequest>(|r| {
            r.endpoint_type = 1;
            r.include_fenced_brokers = true;
            r.unknown_tagged_fields = asked;
        });
        let patience = std::time::Duration::from_millis(LONGEST_WAIT_MS.into());
        let response = self.entry()?.call_waiting(&request, patience)?;
        KafkaError::check(response.error_code, response.error_message.as_deref())
            .map_err(ClientError::kafka("describe the cluster"))?;
        Ok(response)
    }

    pub fn cluster(&mut self) -> Result<ClusterInfo, ClientError> {
        let response = self.describe_cluster(tag(DETAILS, &true))?;
        let node = |b: &kafka_wire::describe_cluster_response::DescribeClusterBroker| Node {
            id: b.broker_id,
            address: super::router::address(&b.host, b.port),
            rack: b.rack.as_ref().map(ToString::to_string),
            fenced: b.is_fenced,
            details: tagged(&b.unknown_tagged_fields, DETAILS),
        };
        let mut nodes: Vec<Node> = response.brokers.iter().map(node).collect();
        nodes.sort_by_key(|node| node.id);
        Ok(ClusterInfo { id: response.cluster_id.to_string(), nodes })
    }

    /// What changed after a change, once something has, or nothing after a while; `None` of a broker that does not tell.
    pub fn changes(&mut self, after: Option<u64>, wait_ms: u32) -> Result<Option<Changes>, ClientError> {
        let response = self.describe_cluster(tag(WATCH, &Watch { after, wait_ms }))?;
        Ok(tagged(&response.unknown_tagged_fields, WATCH))
    }

    pub fn quorum(&mut self) -> Result<Quorum, ClientError> {
        let request = message::<DescribeQuorumRequest>(|r| {
            r.topics = vec![message::<TopicData>(|t| {
                t.topic_name = CLUSTER_METADATA.into();
                t.partitions = vec![PartitionData::default()];
            })];
            r.unknown_tagged_fields = tag(VOTERS, &true);
        });
        let response = self.entry()?.call(&request)?;
        let what = "describe the quorum";
        KafkaError::check(response.error_code, response.error_message.as_deref())
            .map_err(ClientError::kafka(what))?;
        let partition = response.topics.first().and_then(|topic| topic.partitions.first());
        let Some(partition) = partition else { return Err(super::admin::silent(what.to_owned())) };
        KafkaError::check(partition.error_code, partition.error_message.as_deref())
            .map_err(ClientError::kafka(what))?;
        let endpoints = |id: i32| {
            let node = response.nodes.iter().find(|node| node.node_id == id);
            let all = node.map_or(&[][..], |node| &node.listeners);
            all.iter().map(|l| (l.name.to_string(), l.host.to_string(), l.port)).collect()
        };
        let member = |votes: bool| {
            move |r: &ReplicaState| QuorumMember {
                id: r.replica_id,
                directory: r.replica_directory_id.to_bytes(),
                endpoints: endpoints(r.replica_id),
                votes,
                end: r.log_end_offset,
                heard_ms: r.last_fetch_timestamp,
                caught_up_ms: r.last_caught_up_timestamp,
            }
        };
        let mut members: Vec<QuorumMember> = partition.current_voters.iter().map(member(true)).collect();
        members.extend(partition.observers.iter().map(member(false)));
        members.sort_by_key(|member| member.id);
        let (leader, epoch) = (partition.leader_id, partition.leader_epoch);
        let choice = tagged::<VoterChoice>(&response.unknown_tagged_fields, VOTERS);
        let by_hand = choice.is_some_and(|choice| choice.by_hand);
        Ok(Quorum { leader, epoch, high_watermark: partition.high_watermark, by_hand, members })
    }

    /// Has a member of the quorum vote.
    pub fn add_voter(&mut self, cluster: &str, member: &QuorumMember) -> Result<(), ClientError> {
        let listener = |(name, host, port): &(String, String, u16)| {
            message::<Listener>(|l| {
                (l.name, l.host, l.port) = (name.as_str().into(), host.as_str().into(), *port);
            })
        };
        self.ask_voters(&format!("add voter {}", member.id), |r| {
            r.cluster_id = Some(cluster.into());
            (r.voter_id, r.voter_directory_id) = (member.id, Uuid::from_bytes(member.directory));
            r.listeners = member.endpoints.iter().map(listener).collect();
        })
    }

    /// Leaves it to the controller who votes.
    pub fn choose_voters(&mut self) -> Result<(), ClientError> {
        self.ask_voters("have the controller choose voters", |r| {
            r.cluster_id = None;
            r.unknown_tagged_fields = tag(VOTERS, &true);
        })
    }

    fn ask_voters(
        &mut self,
        what: &str,
        fill: impl FnOnce(&mut AddRaftVoterRequest),
    ) -> Result<(), ClientError> {
        let mut request = message::<AddRaftVoterRequest>(|r| r.timeout_ms = TIMEOUT_MS / 2);
        fill(&mut request);
        let response = self.entry()?.call(&request)?;
        KafkaError::check(response.error_code, response.error_message.as_deref())
            .map_err(ClientError::kafka(what.to_owned()))
    }

    pub fn remove_voter(&mut self, cluster: &str, member: &QuorumMember) -> Result<(), ClientError> {
        let request = message::<RemoveRaftVoterRequest>(|r| {
            r.cluster_id = Some(cluster.into());
            (r.voter_id, r.voter_directory_id) = (member.id, Uuid::from_bytes(member.directory));
        });
        let response = self.entry()?.call(&request)?;
        KafkaError::check(response.error_code, response.error_message.as_deref())
            .map_err(ClientError::kafka(format!("remove voter {}", member.id)))
    }

    /// All that is being moved.
    pub fn moving(&mut self) -> Result<Vec<Moving>, ClientError> {
        let request = message::<ListPartitionReassignmentsRequest>(|r| {
            r.timeout_ms = TIMEOUT_MS;
            r.topics = None;
        });
        let response = self.entry()?.call(&request)?;
        KafkaError::check(response.error_code, response.error_message.as_deref())
            .map_err(ClientError::kafka("list what is being moved"))?;
        let mut moving = Vec::new();
        for topic in &response.topics {
            moving.extend(topic.partitions.iter().map(|p| Moving {
                topic: topic.name.to_string(),
                partition: p.partition_index,
                adding: p.adding_replicas.clone(),
                removing: p.removing_replicas.clone(),
            }));
        }
        Ok(moving)
    }

    /// Takes what a broker holds elsewhere, or says what that would come to.
    pub fn drain(&mut self, drain: Drain) -> Result<Drained, ClientError> {
        let request = message::<AlterPartitionReassignmentsRequest>(|r| {
            r.timeout_ms = TIMEOUT_MS;
            r.unknown_tagged_fields = tag(DRAIN, &drain);
        });
        let response = self.entry()?.call(&request)?;
        let what = format!("drain broker {}", drain.broker);
        KafkaError::check(response.error_code, response.error_message.as_deref())
            .map_err(ClientError::kafka(what.clone()))?;
        tagged(&response.unknown_tagged_fields, DRAIN).ok_or_else(|| super::admin::silent(what))
    }

    /// Takes a broker out of the cluster, which has to be stopped.
    pub fn unregister(&mut self, broker: i32) -> Result<(), ClientError> {
        let request = message::<UnregisterBrokerRequest>(|r| r.broker_id = broker);
        let response = self.entry()?.call(&request)?;
        KafkaError::check(response.error_code, response.error_message.as_deref())
            .map_err(ClientError::kafka(format!("remove broker {broker}")))
    }
}
