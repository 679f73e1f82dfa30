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
