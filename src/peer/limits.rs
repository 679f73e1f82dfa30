//! What a link may hold, and how it fails.

use std::io;
use std::sync::Arc;

use super::hello::Refusal;
use super::keys;

/// What one connection may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest frame of an answer, without its length.
    pub frame: usize,
    /// Requests under way.
    pub in_flight: usize,
    /// Bytes of requests that are not in the socket yet.
    pub unsent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame: keys::CONTROL_FRAME, in_flight: 1024, unsent: 4 * keys::CONTROL_FRAME }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No connection: what is not there refuses at once, which tells more than silence.
    #[error("{1}")]
    Unreachable(io::ErrorKind, String),
    #[error("refused: {1}")]
    Refused(Refusal, String),
    /// The connection ended; whether a request was carried out is not known.
    #[error("the connection ended: {0}")]
    Closed(Arc<str>),
    #[error("too much is under way on the connection")]
    Busy,
    #[error("{0}")]
    Malformed(String),
}
