//! A cluster seen through its metadata: brokers, topics, who leads what, and a connection to each.

use std::collections::HashMap;

use kafka_wire::metadata_request::MetadataRequestTopic;
use kafka_wire::{MetadataRequest, MetadataResponse, RequestResponsePair};
use kafka_wire_core::{StrBytes, Uuid};

use super::{ClientError, Connection, KafkaError, Options, message};
use crate::wire::error_code::ErrorCode;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub address: String,
}

#[derive(Clone, Debug)]
pub struct PartitionInfo {
    pub index: i32,
    pub leader: i32,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

#[derive(Clone, Debug)]
pub struct TopicInfo {
    pub name: String,
    pub id: Uuid,
    pub internal: bool,
    pub partitions: Vec<PartitionInfo>,
}

impl TopicInfo {
    /// The broker that leads a partition.
    pub fn leader_of(&self, partition: i32) -> Result<i32, ClientError> {
        let found = self.partitions.iter().find(|p| p.index == partition);
        let info = found.ok_or_else(|| ClientError::UnknownPartition {
            topic: self.name.clone(),
            partition,
            last: self.partitions.len() as i32 - 1,
        })?;
        match info.leader {
            leader if leader >= 0 => Ok(leader),
            _ => Err(ClientError::NoLeader { topic: self.name.clone(), partition }),
        }
    }
}

/// A client of one cluster.
pub struct Client {
    bootstrap: String,
    options: Options,
    brokers: HashMap<i32, Broker>,
    controller: i32,
    connections: HashMap<i32, Connection>,
    /// Topics by name as of the last time they were asked for.
    topics: HashMap<String, TopicInfo>,
    entry: Connection,
}

impl Client {
    /// Connects to one broker of the cluster, `host:port`.
    pub fn connect(bootstrap: &str, options: Options) -> Result<Client, ClientError> {
        let entry = Connection::connect(bootstrap, &options)?;
        Ok(Client {
            bootstrap: bootstrap.to_owned(),
            options,
            brokers: HashMap::new(),
            controller: -1,
            connections: HashMap::new(),
            topics: HashMap::new(),
            entry,
        })
    }

    /// Every topic, in order of name.
    pub fn topics(&mut self) -> Result<Vec<TopicInfo>, ClientError> {
        let response = self.metadata(None, false)?;
        let mut topics: Vec<TopicInfo> =
            response.topics.iter().filter(|t| t.error_code == 0).map(topic_info).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic; `create` lets the broker create it, if it is set up to.
    pub fn topic(&mut self, name: &str, create: bool) -> Result<TopicInfo, ClientError> {
        let mut attempts = 0;
        loop {
            let response = self.metadata(Some(name), create)?;
            let Some(topic) = response.topics.first() else {
                return Err(ClientError::UnknownTopic(name.to_owned()));
            };
            let outcome = KafkaError::check(topic.error_code, None);
            match outcome {
                Ok(()) => {
                    let info = topic_info(topic);
                    self.topics.insert(name.to_owned(), info.clone());
                    return Ok(info);
                }
                // A topic that is being created answers with one of these until its leaders are there.
                Err(error) if create && attempts < 50 && (transient(&error) || unknown_topic(&error)) => {
                    attempts += 1;
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
                Err(error) if unknown_topic(&error) => {
                    return Err(ClientError::UnknownTopic(name.to_owned()));
                }
                Err(error) => return Err(ClientError::kafka(format!("topic {name}"))(error)),
            }
        }
    }

    /// The topic as last seen, asked for if it never was.
    pub fn known_topic(&mut self, name: &str, create: bool) -> Result<TopicInfo, ClientError> {
        match self.topics.get(name) {
            Some(info) => Ok(info.clone()),
            None => self.topic(name, create),
        }
    }

    /// Drops what is known about a topic, after an answer showed it to be out of date.
    pub fn forget(&mut self, name: &str) {
        self.topics.remove(name);
    }

    /// Sends to the broker that leads the partition.
    pub(super) fn call_leader<R: RequestResponsePair>(
        &mut self,
        topic: &TopicInfo,
        partition: i32,
        request: &R,
        patience: std::time::Duration,
    ) -> Result<R::Response, ClientError> {
        self.leader(topic, partition)?.call_waiting(request, patience)
    }

    /// The connection to a partition's leader.
    pub fn leader(&mut self, topic: &TopicInfo, partition: i32) -> Result<&mut Connection, ClientError> {
        self.broker(topic.leader_of(partition)?)
    }

    /// Sends to the controller, as requests that change the cluster must be.
    pub(super) fn call_controller<R: RequestResponsePair>(
        &mut self,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        if self.controller < 0 {
            self.metadata(Some(""), false)?;
        }
        match self.brokers.contains_key(&self.controller) {
            true => self.broker(self.controller)?.call(request),
            // Some brokers do not name a controller and forward by themselves.
            false => self.entry()?.call(request),
        }
    }

    pub(super) fn entry(&mut self) -> Result<&mut Connection, ClientError> {
        if !self.entry.is_usable() {
            self.entry = Connection::connect(&self.bootstrap, &self.options)?;
        }
        Ok(&mut self.entry)
    }

    /// The connection to a broker whose address was just learnt.
    pub(super) fn broker_at(
        &mut self,
        id: i32,
        host: &str,
        port: i32,
    ) -> Result<&mut Connection, ClientError> {
        let address = address(host, port);
        if self.brokers.get(&id).is_none_or(|known| known.address != address) {
            self.connections.remove(&id);
            self.brokers.insert(id, Broker { id, address });
        }
        self.broker(id)
    }

    fn broker(&mut self, id: i32) -> Result<&mut Connection, ClientError> {
        if self.connections.get(&id).is_some_and(|c| !c.is_usable()) {
            self.connections.remove(&id);
        }
        match self.connections.entry(id) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(slot) => {
                let broker = self.brokers.get(&id).map_or(&self.bootstrap, |b| &b.address);
                Ok(slot.insert(Connection::connect(broker, &self.options)?))
            }
        }
    }

    /// Asks about one topic, all (`None`), or only the brokers (an empty name).
    fn metadata(&mut self, topic: Option<&str>, create: bool) -> Result<MetadataResponse, ClientError> {
        let named = |name: &str| message::<MetadataRequestTopic>(|t| t.name = Some(StrBytes::from(name)));
        let request = message::<MetadataRequest>(|r| {
            r.topics = topic.map(|name| if name.is_empty() { vec![] } else { vec![named(name)] });
            r.allow_auto_topic_creation = create;
        });
        let response = self.entry()?.call(&request)?;
        self.brokers = response
            .brokers
            .iter()
            .map(|b| (b.node_id, Broker { id: b.node_id, address: address(&b.host, b.port) }))
            .collect();
        self.controller = response.controller_id;
        Ok(response)
    }
}

pub(super) fn address(host: &str, port: i32) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn unknown_topic(error: &KafkaError) -> bool {
    error.is(ErrorCode::UnknownTopicOrPartition) || error.is(ErrorCode::UnknownTopicId)
}

fn transient(error: &KafkaError) -> bool {
    error.is(ErrorCode::LeaderNotAvailable) || error.is(ErrorCode::NotLeaderOrFollower)
}

fn topic_info(topic: &kafka_wire::metadata_response::MetadataResponseTopic) -> TopicInfo {
    let mut partitions: Vec<PartitionInfo> = topic
        .partitions
        .iter()
        .map(|p| PartitionInfo {
            index: p.partition_index,
            leader: p.leader_id,
            leader_epoch: p.leader_epoch,
            replicas: p.replica_nodes.clone(),
            in_sync: p.isr_nodes.clone(),
        })
        .collect();
    partitions.sort_by_key(|p| p.index);
    TopicInfo {
        name: topic.name.as_ref().map_or(String::new(), |n| n.to_string()),
        id: topic.topic_id,
        internal: topic.is_internal,
        partitions,
    }
}
