//! Sockets and frames: a connection that never blocks, a wait that is precise, requests and answers as bytes.

pub mod frames;
pub mod lane;
pub mod wait;
