//! Who the controller of the cluster is.

use crate::model::BrokerId;

/// Who the controller is, as far as this broker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Of the quorum; never falls.
    pub epoch: i32,
    pub controller: Option<BrokerId>,
    /// It is this broker, and knows all that was committed before.
    pub mine: bool,
}

impl Leadership {
    /// Of a broker that is alone.
    pub const ALONE: Self = Self { epoch: 0, controller: None, mine: true };
}
