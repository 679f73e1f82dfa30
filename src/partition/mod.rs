//! One replica of a partition: what may be appended, what may be read, who is waiting.
//!
//! Owner: the shard that owns the partition. Decisions are pure; bytes go through [`crate::log`]. Nothing here knows
//! connections, requests or other partitions.

pub mod acks;
pub mod append;
mod appended;
pub mod assignment;
mod compaction;
#[cfg(test)]
mod copies_tests;
mod followed;
pub mod follower;
mod following;
mod gaps;
mod host;
pub mod leader;
mod leading;
pub mod offsets;
pub mod peer;
pub mod producer;
mod producer_snapshot;
pub mod read;
mod recovered;
pub mod replica;
#[cfg(test)]
mod replication_tests;
mod storage;
mod transactional;
pub mod transactions;
mod underway;
mod verification;
pub mod waits;

pub use acks::Acks;
pub use appended::{AppendError, Appended, EndOfTxn};
pub use assignment::{Assignment, Role};
pub use followed::Follows;
pub use following::{Cut, Given, Next, Said};
pub use host::Host;
pub use leading::Served;
pub use offsets::Offsets;
pub use read::{FoundOffset, Position, ReadError, ReadOutcome};
pub use recovered::{recovered_producers, recovered_snapshot};
pub use replica::Replica;
pub use underway::Waiting;
pub use verification::Guard;
pub use waits::{Due, Failure, Ticket, Wait, Waits};
