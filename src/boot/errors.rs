//! Why a start fails.

use std::fmt;

/// Why the broker cannot start, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct StartError {
    pub problem: String,
    pub remedy: String,
}

impl StartError {
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        StartError { problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start: {}\n  {}", self.problem, self.remedy)
    }
}

impl std::error::Error for StartError {}

/// Why a broker ended other than by a clean stop.
pub enum Failure {
    Start(StartError),
    /// What a shard said when it was closed.
    Stop(String),
    /// The metadata could not be written, or cannot be: it is no member of its cluster any more.
    Metadata(String),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Stop(reason) => write!(
                f,
                "the log was not closed cleanly: {reason}\n  \
                 Nothing acknowledged is lost: the next start recovers it from the journal."
            ),
            Self::Metadata(why) => write!(
                f,
                "this broker cannot keep the cluster's metadata any more, and has stopped: {why}\n  \
                 Its records are where they were. Look at the disk (`dmesg`, `weir doctor`), then start it again: the others \
                 give it what it lacks."
            ),
        }
    }
}
