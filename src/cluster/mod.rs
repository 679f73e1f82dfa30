//! The cluster's metadata: what topics, partitions and configurations there are.
//!
//! ```text
//! request ─ controller (decides, purely) ─ records ─ metadata log (durable) ─ apply ─ image ─▶ every shard
//! ```
//! [`Image`] is immutable and shared; a change makes a new one out of the old one and a list of
//! [`records::Record`]s. Neither the records nor the decisions know whether one node commits them to a
//! file or a quorum agrees on them. Runs on the control thread; shards only read images.
//!
//! Never here: Kafka's error codes, sockets, shard state.

pub mod control;
pub mod controller;
mod decide;
pub mod image;
pub mod internal;
mod metadata_frame;
pub mod metadata_log;
pub mod names;
pub mod rebuild;
pub mod records;

pub use control::{
    ConfigChange, ConfigOp, ConfigResource, ControlError, ControlErrorKind, ControlReply, ControlRequest,
    NewPartitions, NewTopic, QuotaChange, TopicRef,
};
pub use controller::Controller;
pub use image::{Broker, Image, Partition, Topic};
pub use metadata_log::MetadataError;
