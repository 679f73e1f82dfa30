//! The topics that the broker keeps for itself, with Kafka's configuration of them.

use super::control::NewTopic;
use crate::model::BrokerSettings;

pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// Where Kafka keeps its metadata: no topic may have this name.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";
const SHARE_GROUP_STATE: &str = "__share_group_state";

pub fn is_internal(name: &str) -> bool {
    [CONSUMER_OFFSETS, TRANSACTION_STATE, SHARE_GROUP_STATE].contains(&name)
}

/// How an internal topic is created; `None` for any other.
pub fn internal_topic(name: &str, settings: &BrokerSettings) -> Option<NewTopic> {
    let (groups, transactions) = (&settings.groups, &settings.transactions);
    let (partitions, segment_bytes, compression) = match name {
        CONSUMER_OFFSETS => (groups.topic_partitions, groups.topic_segment_bytes, "producer"),
        TRANSACTION_STATE => {
            (transactions.topic_partitions, transactions.topic_segment_bytes, "uncompressed")
        }
        _ => return None,
    };
    let segment_bytes = segment_bytes.to_string();
    let configs =
        [("cleanup.policy", "compact"), ("compression.type", compression), ("segment.bytes", &segment_bytes)];
    let configs = configs.map(|(name, value)| (name.to_string(), Some(value.to_string())));
    Some(NewTopic { partitions, configs: configs.into(), ..NewTopic::named(name) })
}
