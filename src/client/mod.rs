//! A small Kafka client on blocking sockets, for the command line and the load generator.
//!
//! It speaks to any Kafka-compatible broker: a [`Connection`] negotiates versions and exchanges any
//! request of `kafka_wire`; a [`Client`] finds brokers and partition leaders through it; `records` turns
//! records into batches and back. One thread at a time, one request at a time; what needs many requests
//! in flight builds frames with [`Connection::frame`] and drives the socket itself.
//!
//! Every answer is bounded in size, every wait by a timeout, and every error says which broker and what
//! was being asked. Imports `model` and `wire` only: the broker's own code never uses it.

mod admin;
mod cluster;
mod connection;
mod data;
mod error;
mod groups;
mod membership;
mod records;
mod router;
pub mod stages;
mod transactions;

pub use admin::{ConfigEntry, ConfigOp, CreatedTopic, NewTopic};
pub use cluster::{ClusterInfo, Moving, Node, Quorum, QuorumMember};
pub use connection::{Connection, Options};
pub use data::{FetchQuery, Fetched, Isolation, OffsetAt, Produced};
pub use error::{ClientError, KafkaError};
pub use groups::{Committer, GroupInfo, GroupListing, GroupMember, GroupOffset, TopicPartition};
pub use membership::{Membership, Standing};
pub use records::{BatchOptions, Codec, OwnedRecord, Received, decode_records, encode_batch};
pub use router::{Broker, Client, PartitionInfo, TopicInfo};
pub use transactions::{OpenTxn, TxnInfo, TxnListing};

/// Builds one of `kafka_wire`'s messages, which can only be made from their defaults.
pub fn message<T: Default>(fill: impl FnOnce(&mut T)) -> T {
    let mut value = T::default();
    fill(&mut value);
    value
}
