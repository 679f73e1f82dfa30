//! What is ours on the wire between brokers, and the limits of the cluster listener.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_core::{TaggedField, TaggedFields};

/// Keys of our own requests start here; Kafka's are below.
pub const OWN: i16 = 10_000;
/// The name of the cluster listener among a broker's endpoints.
pub use crate::model::listener::CLUSTER_LISTENER as LISTENER;
/// The first request of a connection.
pub const HELLO: i16 = OWN;
/// A message of the metadata quorum: `what u8 · body`, answered by a body.
pub const QUORUM: i16 = OWN + 1;

/// Our tags in Kafka's messages start here; a message has one of each at most.
pub const TAG: u32 = 10_000;

/// Longest frame before the Hello is understood.
pub const HELLO_FRAME: usize = 4 * 1024;
/// How long a Hello may take to come, and its answer.
pub const HELLO_TIME: Duration = Duration::from_secs(2);
/// Longest frame after it, of a connection that the control thread keeps.
pub const CONTROL_FRAME: usize = 16 * 1024 * 1024;
/// Connections that have not said Hello, of one address and of all.
pub const STRANGERS_OF_ADDRESS: usize = 64;
pub const STRANGERS: usize = 256;
/// Connections of one broker.
pub const CONNECTIONS: usize = 2048;

/// A message's field of our own, if it has it.
pub fn tagged(fields: &TaggedFields, tag: u32) -> Option<Bytes> {
    fields.iter().find(|field| field.tag() == tag).map(|field| field.data().clone())
}

/// Fields of our own, by rising tags.
pub fn tags(fields: impl IntoIterator<Item = (u32, Bytes)>) -> TaggedFields {
    let fields = fields.into_iter().map(|(tag, data)| TaggedField::new(tag, data)).collect();
    TaggedFields::from_sorted(fields).expect("our own tags rise")
}

/// A position in the metadata, as a tag carries it.
pub fn offset_tag(offset: u64) -> Bytes {
    let mut data = BytesMut::with_capacity(8);
    data.put_u64(offset);
    data.freeze()
}

pub fn offset_of(data: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*data.first_chunk()?))
}
