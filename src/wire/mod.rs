//! Bytes of Kafka's protocol: request headers, the v2 batch header, and hand-written forms of the two
//! messages whose payload must not be copied. Everything else is `kafka_wire`'s generated code.
//!
//! Invariants: no length from the wire is trusted before the bytes that back it are there; no input
//! panics; record payloads on their way through are read ([`validate`]) but not copied or reallocated, unless their topic
//! wants another codec. Compaction and lookups by time open single batches with [`codec`] and [`record`].

pub mod batch;
pub mod codec;
pub mod control;
pub mod error_code;
pub mod fetch;
pub mod frame;
pub mod produce;
pub mod produced;
pub mod read;
pub mod record;
pub mod records;
pub mod scan;
pub mod stranger;
#[cfg(test)]
pub(crate) mod testing;
pub mod validate;

pub use batch::{BatchError, BatchHeader, BatchIter};
pub use error_code::ErrorCode;
pub use frame::{RequestHeader, decode_limits, parse_header};
pub use produced::ProducedBatch;
pub use read::WireError;
