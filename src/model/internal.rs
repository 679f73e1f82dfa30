//! The names of the topics that the broker keeps for itself.

pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// Where Kafka keeps its metadata: no topic may have this name.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";
const SHARE_GROUP_STATE: &str = "__share_group_state";

pub fn is_internal(name: &str) -> bool {
    [CONSUMER_OFFSETS, TRANSACTION_STATE, SHARE_GROUP_STATE].contains(&name)
}
