//! How the topics that the broker keeps for itself are made: with Kafka's configuration of them.

use super::request::NewTopic;
use crate::model::BrokerSettings;
use crate::model::internal::{CONSUMER_OFFSETS, TRANSACTION_STATE};

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
