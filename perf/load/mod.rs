//! What is sent: when, how large, under which key, to which partition, with which bytes. Knows no socket.

pub mod batch;
pub mod draw;
pub mod keys;
pub mod payload;
pub mod random;
pub mod schedule;

#[cfg(test)]
mod tests;
