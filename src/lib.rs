//! Weir: a Kafka-compatible log broker.

pub mod config;
pub mod model;

pub mod rt;
pub mod wire;

pub mod log;

pub mod partition;

pub mod cluster;

pub mod shard;

pub mod api;

pub mod admin;
pub mod server;

pub mod client;

pub mod boot;

pub mod cli;
