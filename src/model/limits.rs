//! The bounds of everything that a peer can make grow.

/// The largest request frame, as Kafka's `socket.request.max.bytes`. A larger one closes the connection.
pub const MAX_FRAME_BYTES: usize = 100 * 1024 * 1024;
/// Requests of one connection that may be under way before its socket is no longer read.
pub const MAX_IN_FLIGHT: usize = 128;
/// Longest topic name (Kafka's own rule, from file-name limits).
pub const MAX_TOPIC_NAME: usize = 249;
/// Largest number of partitions a single topic may have.
pub const MAX_PARTITIONS_PER_TOPIC: i32 = 100_000;
/// Partitions that one request may create, as Kafka has it: more are asked for in several requests.
pub const MAX_PARTITIONS_PER_REQUEST: usize = 10_000;

const _: () = assert!(MAX_PARTITIONS_PER_REQUEST <= MAX_PARTITIONS_PER_TOPIC as usize);
const _: () = assert!(MAX_FRAME_BYTES < i32::MAX as usize);
