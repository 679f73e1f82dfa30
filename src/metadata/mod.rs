//! The cluster's metadata: what topics, partitions, brokers and configurations there are.
//!
//! ```text
//! records ─ log (durable) ─ apply ─▶ image, and the delta that leads to it ─▶ whoever follows
//! ```
//! [`Image`] is immutable and shared; a change makes a new one out of the old one and a list of [`records::Record`]s. Neither
//! knows whether one node commits the records to a file or a quorum agrees on them. Shards only read images.
//!
//! Never here: decisions (they are the controller's), Kafka's error codes, sockets, shard state.

mod apply;
mod codec;
mod committed;
mod deleted;
mod delta;
mod errors;
pub mod features;
mod files;
mod frame;
pub mod image;
mod insync;
pub mod log;
pub mod names;
mod node;
mod owner;
mod partition;
pub mod quorum;
pub mod records;
pub mod recover;
mod resolve;
mod scan;
mod snapshot;
mod store;
mod v1;

pub use committed::Committed;
pub use delta::{Delta, LocalDelta};
pub use errors::{ApplyError, MetadataError};
pub use image::{Broker, Image, Overrides, Topic};
pub use insync::{MIN_INSYNC, auto_min_insync, cluster_config, min_insync};
pub use node::Node;
pub use partition::{Change, MAX_REPLICAS, Partition, Partitions, Parts as PartitionParts};
pub use resolve::Resolver;
pub use store::{Parts as StoreParts, Store, new_id};
