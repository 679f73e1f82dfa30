//! The cluster's metadata: what topics, partitions and configurations there are.
//!
//! [`Image`] is immutable and shared; a change makes a new one out of the old one and a list of [`records::Record`]s. Neither
//! knows whether one node commits the records to a file or a quorum agrees on them. Shards only read images.
//!
//! Never here: decisions (they are the controller's), Kafka's error codes, sockets, shard state.

mod frame;
pub mod image;
pub mod internal;
pub mod log;
pub mod names;
pub mod records;

pub use image::{Broker, Image, Partition, Topic};
pub use log::MetadataError;
