//! The words of the domain: ids, limits, topic configuration. No I/O, no wire format, no time.

pub mod ids;
pub mod limits;

pub use ids::{BrokerId, PartitionId, TopicId, shard_of};
