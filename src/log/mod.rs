//! One shard's bytes on disk: a journal that makes appends durable, segments that keep them, and the
//! checkpoint that says where one ends and the other begins.
//!
//! - An append is in the journal before it is in a segment, and in a segment before its journal file is reused.
//! - `checkpoint floor ≤ oldest un-segmented lsn ≤ durable lsn ≤ last appended lsn`.
//! - Everything is owned by one shard; nothing here is `Send`, knows Kafka's error codes, or opens a socket.

pub mod belongs;
pub mod cache;
mod changed;
pub mod checkpoint;
pub mod compact;
mod discard;
mod epochs;
pub mod error;
pub mod evidence;
pub mod history;
pub mod holdings;
pub mod journal;
mod layout;
mod listed;
mod lru;
pub mod lsn;
pub mod mend;
mod objection;
pub mod partition_log;
pub mod placement;
mod promised;
pub mod relayout;
mod reopen;
pub mod segment;
pub mod set_aside;
pub mod snapshots;
pub mod store;
pub mod survey;
mod truncate;
mod turn;

pub use belongs::{Holdings, Objection};
pub use cache::BatchCache;
pub use checkpoint::Origin;
pub use error::{JournalFailed, LogError};
pub use holdings::holdings;
pub use journal::Journal;
pub use listed::PartitionCheckpoint;
pub use lsn::Lsn;
pub use mend::Mending;
pub use partition_log::PartitionLog;
pub use relayout::relayout;
pub use snapshots::Producers;
pub use store::space::DiskFull;
pub use store::{
    LogSettings, OwnerState, RecoveredPartition, ReplicaAppendError, ScrubStats, ShardLog, Topics, Truncated,
    sweep, topics_dir,
};
