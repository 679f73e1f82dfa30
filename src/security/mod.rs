//! What clients may do and how much of it: pure decisions, without I/O, time or state of their own.

pub mod quota;
