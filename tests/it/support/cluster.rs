//! Several brokers as one cluster.

use std::net::SocketAddr;
use std::time::Duration;

use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire::metadata_request::MetadataRequestTopic;
use kafka_wire::{CreateTopicsRequest, DescribeQuorumRequest, MetadataRequest, describe_quorum_request};

use super::calls::Topic;
use super::{Broker, Options, Wire, eventually, msg};

/// Far beyond what anything takes on a starved machine.
const LONG: Duration = Duration::from_secs(60);

pub fn joining(broker: &Broker) -> Options {
    let address: &'static str = Box::leak(broker.kafka.to_string().into_boxed_str());
    Options { shards: 1, args: vec!["--join", address], ..Options::default() }
}

/// Three brokers of one shard each, all of which vote.
pub fn three() -> [Broker; 3] {
    let first = Broker::start_with(Options { shards: 1, ..Options::default() });
    // Any broker may be named.
    let second = Broker::start_with(joining(&first));
    let third = Broker::start_with(joining(&second));
    let all = [first, second, third];
    // Before, one broker alone decides, and nothing is decided without it.
    eventually("three vote", LONG, || voters(all[0].kafka).len() == 3);
    all
}

/// Who votes, as the controller says.
pub fn voters(at: SocketAddr) -> Vec<i32> {
    let partition = msg!(describe_quorum_request::PartitionData { partition_index: 0 });
    let topic = msg!(describe_quorum_request::TopicData {
        topic_name: "__cluster_metadata".into(),
        partitions: vec![partition],
    });
    let answer = Wire::connect(at).call(2, &msg!(DescribeQuorumRequest { topics: vec![topic] }));
    let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
    partition.map_or_else(Vec::new, |p| p.current_voters.iter().map(|voter| voter.replica_id).collect())
}

/// Where clients begin: any of them.
pub fn bootstrap(all: &[Broker]) -> String {
    all.iter().map(|broker| broker.kafka.to_string()).collect::<Vec<_>>().join(",")
}

/// A topic, of the cluster's default factor where that is −1, once each partition has its replicas.
pub fn create(all: &[Broker], name: &str, partitions: i32, factor: i16) -> Topic {
    let topic =
        msg!(CreatableTopic { name: name.into(), num_partitions: partitions, replication_factor: factor });
    let request = msg!(CreateTopicsRequest { topics: vec![topic], timeout_ms: 20_000 });
    let reply = Wire::connect(all[0].kafka).call(7, &request);
    assert_eq!(reply.topics[0].error_code, 0, "{name}: {:?}", reply.topics[0].error_message);
    let replicas = if factor == -1 { 3 } else { factor as usize };
    eventually("each partition has its replicas", LONG, || whole(all, &[name], replicas));
    Topic { name: name.to_owned(), id: reply.topics[0].topic_id }
}

/// Whether each broker says that every partition of the topics is led and has so many replicas in sync.
pub fn whole(all: &[Broker], names: &[&str], replicas: usize) -> bool {
    let topics = names.iter().map(|name| msg!(MetadataRequestTopic { name: Some((*name).into()) }));
    let request = msg!(MetadataRequest { topics: Some(topics.collect()) });
    all.iter().all(|broker| {
        let Ok(mut wire) = Wire::try_connect(broker.kafka) else { return false };
        let Some(reply) = wire.try_call(12, &request) else { return false };
        reply.topics.iter().all(|topic| {
            let mut partitions = topic.partitions.iter();
            topic.error_code == 0 && partitions.all(|p| p.leader_id > 0 && p.isr_nodes.len() == replicas)
        })
    })
}
