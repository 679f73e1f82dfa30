//! The words of the domain: ids, limits, settings, topic configuration. No I/O, no wire format, no clock.

pub mod broker_config;
pub mod config_def;
pub mod ids;
pub mod internal;
pub mod limits;
pub mod listener;
pub mod live;
pub mod map;
pub mod pattern;
pub mod printable;
pub mod quantities;
pub mod report;
pub mod resource_configs;
pub mod settings;
pub mod throttled;
pub mod topic_config;
pub mod utc;

pub use ids::{BrokerId, PartitionId, TopicId, shard_of};
pub use listener::Listener;
pub use live::Live;
pub use quantities::{
    BrokerEpoch, LeaderEpoch, MonoMs, Offset, PartitionEpoch, Producer, ProducerEpoch, ProducerId, WallMs,
};
pub use settings::BrokerSettings;
pub use topic_config::TopicConfig;
