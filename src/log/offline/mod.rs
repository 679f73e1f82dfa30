//! Work on a data directory while no broker runs: looking through it, mending it, changing the number of shards.
//!
//! [`survey`] reads and reports; [`mend`] gives up what is lost so that the rest is served; [`relayout`] places partitions
//! on another number of shards; [`evidence`] finds the topics of a directory that lost its metadata; [`unknown`] puts away what no
//! topic has. Blocking throughout.

mod check;
pub mod evidence;
pub mod mend;
pub mod relayout;
mod repair;
mod set_aside;
pub mod survey;
pub mod unknown;
