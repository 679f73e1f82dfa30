//! What can be wrong with metadata: records that do not fit, and files.

use std::io;
use std::path::PathBuf;

use super::records::RecordError;
use crate::model::{BrokerId, PartitionId, TopicId};

/// A stored record that does not fit what precedes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("topic {0} is created twice")]
    TopicTwice(TopicId),
    #[error("the topic name '{0}' is given twice")]
    NameTwice(String),
    #[error("topic {0} does not exist")]
    NoTopic(TopicId),
    #[error("partition {0} does not exist")]
    NoPartition(PartitionId),
    #[error("partition {0} is not the next of its topic")]
    OutOfOrder(PartitionId),
    #[error("a partition of topic {0} has no replica")]
    NoReplica(TopicId),
    #[error("a partition of topic {0} has too many replicas, or one twice")]
    BadReplicas(TopicId),
    #[error("broker {broker} is not in sync with a partition of topic {topic}, and has a part in it")]
    NotAReplica { topic: TopicId, broker: BrokerId },
    #[error("broker {0} is not registered")]
    NoBroker(BrokerId),
    #[error("broker {0} has no endpoint")]
    NoEndpoint(BrokerId),
    #[error("a large change ends that was not begun, or begins in another one")]
    Bracket,
}

#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error("cannot {doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the metadata log {path} is damaged at byte {offset}: {what}. Nothing was changed. Restore the file \
         from a backup or a copy of the disk; starting without it would lose topics"
    )]
    Corrupt { path: PathBuf, offset: u64, what: String },
    #[error(
        "{path} has format {found}, and this version of Weir reads up to {known}: it was \
         written by a newer version. Start that version, or use another data directory"
    )]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error(
        "{path} has at byte {offset} {error}: it was written by a newer version. Start that version, or use another \
         data directory"
    )]
    NewerRecord { path: PathBuf, offset: u64, error: RecordError },
    #[error(
        "the metadata is at level {found} of {feature}, and this version of Weir runs {min} to {max}: start a newer \
         version, or use another data directory"
    )]
    Level { feature: String, found: i16, min: i16, max: i16 },
    #[error("the data directory belongs to broker {stored}, but this broker's id is {configured}")]
    OtherBroker { stored: i32, configured: i32 },
    #[error("one change of {0} bytes is too large for the metadata log")]
    TooLarge(usize),
    #[error("the metadata log failed earlier and takes no more changes until a restart: {0}")]
    Poisoned(String),
}

impl MetadataError {
    /// The disk, or what this user may have of it, is full: there may be room later.
    pub fn is_full(&self) -> bool {
        let full = |source: &io::Error| {
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        matches!(self, Self::Io { source, .. } if full(source))
    }
}
