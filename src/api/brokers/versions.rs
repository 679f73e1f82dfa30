//! The versions and private tags of what brokers ask of the controller.

use crate::peer::keys;

pub const REGISTRATION: i16 = 4;
pub const HEARTBEAT: i16 = 1;
pub const ALTER_PARTITION: i16 = 3;
pub const PRODUCER_IDS: i16 = 0;
pub const CREATE_TOPICS: i16 = 7;

/// In requests: what there is besides. In answers: the offset that they may rest on.
pub const EXTRA: u32 = keys::TAG;
/// In answers to registrations: the broker's id.
pub const ID: u32 = keys::TAG + 1;
/// In answers that are errors: why.
pub const WHY: u32 = keys::TAG + 2;
/// In heartbeats: what the broker holds and takes.
pub const LOAD: u32 = keys::TAG + 3;
