//! One member of a group: what it said of itself, and what it waits for.

use bytes::Bytes;

use super::types::{Join, Name};
use crate::coordinator::{Deadline, Token};

#[derive(Clone, Debug)]
pub struct Member {
    pub id: Name,
    pub instance: Option<Name>,
    pub client_id: Name,
    pub client_host: Name,
    pub rebalance_timeout: i32,
    pub session_timeout: i32,
    /// By preference.
    pub protocols: Vec<(Name, Bytes)>,
    pub assignment: Bytes,
    /// The JoinGroup that waits for the generation.
    pub joining: Option<Token>,
    /// The SyncGroup that waits for the assignment.
    pub syncing: Option<Token>,
    /// It has not been part of a generation.
    pub is_new: bool,
    pub session: Deadline,
}

impl Member {
    pub fn new(id: Name, join: &Join) -> Self {
        Self {
            id,
            instance: join.instance.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            rebalance_timeout: join.rebalance_timeout,
            session_timeout: join.session_timeout,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: true,
            session: Deadline::default(),
        }
    }

    pub fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| Some(&**name) == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// A member that waits for us need not send heartbeats, unless it never got an id to send them with.
    pub fn is_alive(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}
