//! What clients may do and how much of it: pure decisions, without I/O, time or state of their own.

pub mod access;
pub mod principal;
pub mod quota;

pub use access::{Access, Operation, Resource, ResourceType};
pub use principal::Principal;
