//! shard

pub mod metrics;
