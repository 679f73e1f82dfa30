//! What becomes of what is to be appended.

use std::sync::Arc;

use thiserror::Error;

use super::producer::ProducerError;
use crate::log::{DiskFull, JournalFailed};
use crate::model::{Offset, Producer, WallMs};
use crate::wire::batch::BatchError;
use crate::wire::control::EndMarker;
use crate::wire::validate::Refusal;

#[derive(Debug, Error)]
pub enum AppendError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Producer(#[from] ProducerError),
    /// Those before it were refused, and will come again: so does this one.
    #[error("sequence {got} does not follow {last}, and what is between may be under way: try again")]
    AfterRefused { got: i32, last: i32 },
    #[error("no transaction is known of that the batch belongs to")]
    NotVerified,
    #[error("this broker does not lead the partition")]
    NotLeader,
    #[error("fewer replicas are in sync than min.insync.replicas asks for")]
    NotEnoughReplicas,
    #[error("the partition needs repair: {0}")]
    NeedsRepair(Arc<str>),
    #[error("{0}")]
    DiskFull(#[from] DiskFull),
    #[error("the journal has failed: {0}")]
    JournalFailed(Arc<str>),
}

impl From<BatchError> for AppendError {
    fn from(e: BatchError) -> Self {
        Self::Refused(e.into())
    }
}

impl From<JournalFailed> for AppendError {
    fn from(failed: JournalFailed) -> Self {
        Self::JournalFailed(failed.0)
    }
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    /// The broker's time, where the topic's timestamps are the broker's.
    pub log_append_time: Option<WallMs>,
    pub log_start_offset: Offset,
    /// The offset after the batch: it counts once the leader's durable end, or the high watermark, is there.
    pub end: Offset,
}

/// The end of a transaction, as its coordinator asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOfTxn {
    pub producer: Producer,
    pub marker: EndMarker,
    /// The version of the transaction protocol: from 2 on every transaction has an epoch of its own.
    pub version: i8,
}
