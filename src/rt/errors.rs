//! Errors of the disk, counted where they happen: by operation and kind, over the whole process.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Open,
    /// Space is reserved, or a file is given another length.
    Allocate,
    Read,
    Write,
    Sync,
    /// A name is changed or removed.
    Rename,
}

impl Op {
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Allocate, Self::Read, Self::Write, Self::Sync, Self::Rename];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Allocate => "allocate",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Rename => "rename",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ENOSPC, EDQUOT.
    NoSpace,
    /// EMFILE, ENFILE.
    NoDescriptors,
    /// A write did less than it was asked to; the rest followed.
    Short,
    /// EIO and all that should not happen.
    Failed,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::NoSpace, Self::NoDescriptors, Self::Short, Self::Failed];

    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "no_space",
            Self::NoDescriptors => "no_descriptors",
            Self::Short => "short",
            Self::Failed => "failed",
        }
    }

    /// `None` for what is an answer and no error: there is no such file, or there is one already.
    fn of(error: &io::Error) -> Option<Self> {
        use io::ErrorKind::{AlreadyExists, Interrupted, NotFound};
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Some(Self::NoSpace),
            Some(libc::EMFILE | libc::ENFILE) => Some(Self::NoDescriptors),
            _ if matches!(error.kind(), AlreadyExists | Interrupted | NotFound) => None,
            _ => Some(Self::Failed),
        }
    }
}

static COUNTS: [[AtomicU64; Kind::ALL.len()]; Op::ALL.len()] =
    [const { [const { AtomicU64::new(0) }; Kind::ALL.len()] }; Op::ALL.len()];

/// How often that was seen since the process began.
pub fn seen(op: Op, kind: Kind) -> u64 {
    COUNTS[op as usize][kind as usize].load(Ordering::Relaxed)
}

pub(super) fn count(op: Op, kind: Kind) {
    COUNTS[op as usize][kind as usize].fetch_add(1, Ordering::Relaxed);
}

/// Counts an operation's error, if it is one, and gives the result back.
pub(super) fn noted<T>(op: Op, result: io::Result<T>) -> io::Result<T> {
    if let Err(error) = &result
        && let Some(kind) = Kind::of(error)
    {
        count(op, kind);
    }
    result
}
