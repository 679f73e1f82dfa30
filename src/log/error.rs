//! What can go wrong below a partition's log, for everything in `log`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{Offset, PartitionId};

/// The journal stopped for ever at its first failed write: which file, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the journal stopped: {0}")]
pub struct JournalFailed(pub Arc<str>);

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// Bytes that were durable once and are not what was written.
    #[error("{} is corrupt at offset {offset}: {what}", path.display())]
    Corrupt { path: PathBuf, offset: u64, what: String },
    #[error("{} has format version {version}, which is newer than this program", path.display())]
    Newer { path: PathBuf, version: u32 },
    /// The metadata is not that of this journal.
    #[error(
        "{} has records of partition {id}, and the metadata neither has nor deleted its topic: put back the newest \
         meta/, or let `weir log recover-metadata` add the topic", dir.display()
    )]
    UnknownTopic { dir: PathBuf, id: PartitionId },
    #[error(transparent)]
    Journal(#[from] JournalFailed),
    #[error("offset {offset} is outside {start}..{end}")]
    OffsetOutOfRange { offset: Offset, start: Offset, end: Offset },
    /// The log was removed while it was in use.
    #[error("the log was removed")]
    Removed,
}

impl LogError {
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    /// An error of the disk that is there to stay.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Io { source, .. } if !may_pass(source))
    }

    pub fn corrupt(path: impl AsRef<Path>, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.as_ref().to_owned(), offset, what: what.into() }
    }
}

/// Whether the disk is only full, or files have run out: what may pass without anybody looking at the disk.
pub fn may_pass(error: &io::Error) -> bool {
    is_full(error) || is_out_of_files(error)
}

/// The disk, or what this user may have of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// No descriptor is left, for this process or for all.
pub fn is_out_of_files(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}
