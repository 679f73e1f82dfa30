//! The driver of coordinators: one [`Machine`] for each partition of its internal topic that is led here, for one leader epoch.
//!
//! A machine is loaded by replaying its partition's log when the partition is first seen; requests meanwhile are
//! told so. Afterwards events reach it one at a time. What it writes is appended at once, in order, through the
//! partition's replica; what rests on it (settled replies, commands) waits in the machine's queue until it is committed.
//! Timers of all machines are one heap with one sleeping task.
//!
//! A machine whose append failed knows more than its log does: it is loaded again after a pause. One whose log cannot be
//! read serves nothing: a restart decides.

mod coordinators;
mod driver;
mod follow;
mod kinds;
mod load;
mod requests;
mod settle;
mod settling;
mod step;

pub(in crate::shard) use coordinators::Coordinators;
pub use driver::Unavailable;
