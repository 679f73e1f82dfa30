//! The topics that the broker keeps for itself, with Kafka's configuration of them.

use super::control::NewTopic;
use crate::model::BrokerSettings;

pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
pub const TRANSACTION_STATE: &str = "__transaction_state";
const SHARE_GROUP_STATE: &str = "__share_group_state";

const SEGMENT_BYTES: &str = "104857600";

pub fn is_internal(name: &str) -> bool {
    [CONSUMER_OFFSETS, TRANSACTION_STATE, SHARE_GROUP_STATE].contains(&name)
}

/// How an internal topic is created; `None` for any other.
pub fn internal_topic(name: &str, settings: &BrokerSettings) -> Option<NewTopic> {
    let (partitions, compression) = match name {
        CONSUMER_OFFSETS => (settings.groups.topic_partitions, "producer"),
        TRANSACTION_STATE => (settings.transaction_topic_partitions, "uncompressed"),
        _ => return None,
    };
    let configs =
        [("cleanup.policy", "compact"), ("compression.type", compression), ("segment.bytes", SEGMENT_BYTES)];
    let configs = configs.map(|(name, value)| (name.to_string(), Some(value.to_string())));
    Some(NewTopic { partitions, configs: configs.into(), ..NewTopic::named(name) })
}
