//! One shard's bytes on disk: a journal that makes appends durable, segments that keep them, and the
//! checkpoint that says where one ends and the other begins.
//!
//! - An append is in the journal before it is in a segment, and in a segment before its journal file is reused.
//! - `checkpoint floor ≤ oldest un-segmented lsn ≤ durable lsn ≤ last appended lsn`.
//! - Everything is owned by one shard; nothing here is `Send`, knows Kafka's error codes, or opens a socket.
//!
//! The rooms, each built on those above it:
//! ```text
//! lsn error    words
//! files        names, owners and the end of files            resources  memory and open files that logs share
//! segment      one file of batches at rest, its index        formats    checkpoint, placement, cut: bytes on disk
//! journal      durability of appends, one fsync for many     directory  whether a data directory's parts belong together
//! direct       batches that go to their segment first        partition  one partition's log: tail and segments
//! compact      each key's last record stays                  shard_log  all partitions of a shard, open to close
//! offline      tools without a broker
//! ```

pub mod compact;
mod direct;
mod directory;
mod error;
mod files;
mod formats;
pub mod journal;
mod lsn;
mod offline;
mod partition;
mod resources;
mod segment;
mod shard_log;

pub use directory::{Holdings, Objection, Topics, holdings};
pub use error::{JournalFailed, LogError, is_full, may_pass};
pub use files::layout::topics_dir;
pub use formats::PartitionCheckpoint;
pub use formats::checkpoint::{self, Origin};
pub use journal::Journal;
pub use lsn::Lsn;
pub use offline::evidence::{FoundTopic, evidence};
pub use offline::mend::{Mended, Mending};
pub use offline::relayout::relayout;
pub use offline::survey::{Finding, Survey, survey};
pub use offline::unknown::put_unknown_aside;
pub use partition::{PartitionLog, Producers};
pub use resources::Resources;
pub use segment::SegmentMeta;
pub use shard_log::space::{DiskFull, drop_ballast};
pub use shard_log::{
    LogSettings, OwnerState, RecoveredPartition, ReplicaAppendError, ScrubStats, ShardLog, Truncated, sweep,
};
