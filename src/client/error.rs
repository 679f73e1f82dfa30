//! What can go wrong when talking to a broker.

use std::fmt;
use std::io;

use crate::wire::error_code::ErrorCode;

/// An error that the broker answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaError {
    pub code: i16,
    /// The broker's own words, when it sent any.
    pub message: Option<String>,
}

impl KafkaError {
    /// `Ok` for code 0.
    pub fn check(code: i16, message: Option<&str>) -> Result<(), KafkaError> {
        match code {
            0 => Ok(()),
            _ => Err(KafkaError { code, message: message.map(str::to_owned) }),
        }
    }

    pub fn is(&self, code: ErrorCode) -> bool {
        self.code == code.code()
    }
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ErrorCode::from_code(self.code) {
            known if known.code() == self.code => f.write_str(known.name())?,
            _ => write!(f, "error {}", self.code)?,
        }
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to {address}: {error}")]
    Connect { address: String, error: io::Error },
    #[error("{address}: {what}: {error}")]
    Io { address: String, what: &'static str, error: io::Error },
    #[error("{address} did not answer {what} within {seconds} s")]
    Timeout { address: String, what: &'static str, seconds: u64 },
    #[error("{address} closed the connection instead of answering {what}")]
    Closed { address: String, what: &'static str },
    #[error("{address} answered {what} with something that is not Kafka's protocol: {detail}")]
    Malformed { address: String, what: &'static str, detail: String },
    #[error("{address} does not serve {what} in any version this client speaks")]
    Unsupported { address: String, what: &'static str },
    #[error("cannot send {what}: {detail}")]
    Encode { what: &'static str, detail: String },
    #[error("{what}: {error}")]
    Kafka { what: String, error: KafkaError },
    #[error("topic {0} does not exist")]
    UnknownTopic(String),
    #[error("group {0} does not exist")]
    UnknownGroup(String),
    #[error("topic {topic} has no partition {partition}; it has 0 to {last}")]
    UnknownPartition { topic: String, partition: i32, last: i32 },
    #[error("partition {partition} of {topic} has no leader at the moment")]
    NoLeader { topic: String, partition: i32 },
    #[error("records: {0}")]
    Records(#[from] kafka_wire_records::RecordError),
}

impl ClientError {
    pub(super) fn kafka(what: impl Into<String>) -> impl FnOnce(KafkaError) -> ClientError {
        let what = what.into();
        move |error| ClientError::Kafka { what, error }
    }

    /// The group is not there.
    pub fn is_missing_group(&self) -> bool {
        match self {
            ClientError::UnknownGroup(_) => true,
            ClientError::Kafka { error, .. } => error.is(ErrorCode::GroupIdNotFound),
            _ => false,
        }
    }

    /// The group has moved on without this member: it has to join again.
    pub fn is_fenced_member(&self) -> bool {
        let fenced =
            [ErrorCode::IllegalGeneration, ErrorCode::UnknownMemberId, ErrorCode::RebalanceInProgress];
        matches!(self, ClientError::Kafka { error, .. } if fenced.iter().any(|code| error.is(*code)))
    }

    /// The answer shows that another broker, or an older copy of the topic, was meant: nothing was done,
    /// and asking for metadata again may help.
    pub fn is_stale_metadata(&self) -> bool {
        let stale = [
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::LeaderNotAvailable,
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::UnknownTopicId,
        ];
        self.code().is_some_and(|code| stale.iter().any(|s| s.code() == code))
    }

    pub fn is_invalid_config(&self) -> bool {
        self.code() == Some(ErrorCode::InvalidConfig.code())
    }

    pub fn is_out_of_range(&self) -> bool {
        self.code() == Some(ErrorCode::OffsetOutOfRange.code())
    }

    /// The broker's error code, if it answered with one.
    pub fn code(&self) -> Option<i16> {
        match self {
            ClientError::Kafka { error, .. } => Some(error.code),
            _ => None,
        }
    }
}
