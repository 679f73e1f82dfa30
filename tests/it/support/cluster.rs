//! Several brokers as one cluster.

use std::net::SocketAddr;
use std::time::Duration;

use kafka_wire::{DescribeQuorumRequest, describe_quorum_request};

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
