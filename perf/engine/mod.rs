//! The threads that load a broker: open and closed producers, consumers, and what they count.
//!
//! A thread owns its connections, its counters and its random numbers; threads share only the plan, which
//! does not change, and a few counters. Once a second a thread hands its interval's counters over.

pub mod accumulator;
pub mod closed;
pub mod consumer;
pub mod members;
pub mod meter;
pub mod open;
pub mod order;
pub mod plan;

#[cfg(test)]
mod tests;
