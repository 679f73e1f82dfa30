//! What the kernel did not give, by the name that manuals use.

use std::fmt;
use std::io;

/// Something that a runtime cannot do without.
#[derive(Debug)]
pub struct Refused {
    /// A system call, or what it makes.
    pub what: &'static str,
    pub error: io::Error,
}

impl Refused {
    /// To be given to `map_err`.
    pub fn named(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self { what, error }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::new(refused.error.kind(), refused.to_string())
    }
}
