//! Files and directories below the logs: their names, whose they are, and how they go.
//!
//! [`layout`] has the paths, [`names`] the names beside a log's segments, [`owner`] the mark of the topic that a directory
//! is of. What is deleted is renamed first ([`dead`]) and unlinked later, large files in pieces ([`discard`]).

pub mod dead;
pub mod discard;
pub mod layout;
pub mod names;
pub mod owner;
