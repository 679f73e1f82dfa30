//! Raft over a network in memory, and the store that it keeps. A seed draws what happens, and is told when a test fails.

mod chaos;
mod cluster;
mod storage;
mod suite;
