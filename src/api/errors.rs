//! Errors of replicas as Kafka names them, for the APIs that append to partitions and read from them.

use crate::partition::producer::ProducerError;
use crate::partition::{AppendError, ReadError};
use crate::wire::ErrorCode;

/// The isolation level of who reads committed data only (KIP-98); 0 is of who reads all, and others there are none.
pub const READ_COMMITTED: i8 = 1;

/// The Kafka error of a failed read or lookup.
pub fn read_error(e: &ReadError) -> ErrorCode {
    match e {
        ReadError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        ReadError::NotLeader => ErrorCode::NotLeaderOrFollower,
        ReadError::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        ReadError::OffsetNotAvailable => ErrorCode::OffsetNotAvailable,
        ReadError::FencedEpoch => ErrorCode::FencedLeaderEpoch,
        ReadError::UnknownEpoch => ErrorCode::UnknownLeaderEpoch,
        ReadError::Corrupt(_) => ErrorCode::CorruptMessage,
        ReadError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

/// The Kafka error of a batch that was not appended.
pub fn append_error(e: &AppendError) -> ErrorCode {
    match e {
        AppendError::Refused(why) => ErrorCode::from(why),
        // Not PRODUCER_FENCED, which only transactions use (KIP-588).
        AppendError::Producer(ProducerError::StaleEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
        AppendError::Producer(ProducerError::OutOfOrder { .. }) => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::Producer(ProducerError::NotOfTransaction(_)) => ErrorCode::InvalidTxnState,
        AppendError::Producer(ProducerError::StaleCoordinator { .. }) => {
            ErrorCode::TransactionCoordinatorFenced
        }
        AppendError::NotVerified => ErrorCode::InvalidTxnState,
        AppendError::NotLeader | AppendError::AfterRefused { .. } => ErrorCode::NotLeaderOrFollower,
        AppendError::NotEnoughReplicas => ErrorCode::NotEnoughReplicas,
        // Clients try again: room may come back.
        AppendError::NeedsRepair(_) | AppendError::DiskFull(_) | AppendError::JournalFailed(_) => {
            ErrorCode::KafkaStorageError
        }
    }
}

/// Whether an error with this code sends the client to the partition's leader.
pub fn is_elsewhere(code: i16) -> bool {
    [ErrorCode::NotLeaderOrFollower.code(), ErrorCode::FencedLeaderEpoch.code()].contains(&code)
}
