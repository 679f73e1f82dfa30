//! What a client may do: asked here by every API, of every resource that a request names. An API may ask only for what
//! its row of [`super::table`] says.

use super::request::Cx;
use crate::security::{Operation, Resource, ResourceType};
use crate::wire::ErrorCode;

/// What somebody may do.
pub trait Rights {
    fn may(&self, operation: Operation, resource: Resource<'_>) -> bool;

    /// Everything that may be done to a resource: the n-th bit is of the operation with code n.
    fn operations(&self, resource: Resource<'_>) -> i32 {
        let allowed = resource.kind().operations().iter().filter(|operation| self.may(**operation, resource));
        allowed.fold(0, |bits, operation| bits | 1 << *operation as i32)
    }

    /// Fails with the code that Kafka has for a resource of this type.
    fn authorize(&self, operation: Operation, resource: Resource<'_>) -> Result<(), ErrorCode> {
        if self.may(operation, resource) { Ok(()) } else { Err(refusal(resource.kind())) }
    }
}

pub fn refusal(kind: ResourceType) -> ErrorCode {
    match kind {
        ResourceType::Topic => ErrorCode::TopicAuthorizationFailed,
        ResourceType::Group => ErrorCode::GroupAuthorizationFailed,
        ResourceType::Cluster => ErrorCode::ClusterAuthorizationFailed,
        ResourceType::TransactionalId => ErrorCode::TransactionalIdAuthorizationFailed,
    }
}

/// The client of this request.
impl Rights for Cx {
    fn may(&self, operation: Operation, resource: Resource<'_>) -> bool {
        debug_assert!(
            self.api.may_ask(operation, resource.kind()),
            "{} asks for {operation:?} of {resource:?}, which its row does not say",
            self.api.name,
        );
        let connection = &self.connection;
        self.shard.access().allows(connection.principal(), connection.peer.ip(), operation, &resource)
    }
}

impl Cx {
    /// As [`Rights::authorize`], counted.
    pub fn admit(&self, operation: Operation, resource: Resource<'_>) -> Result<(), ErrorCode> {
        self.authorize(operation, resource).inspect_err(|code| self.count(*code))
    }

    /// The part of what a request names that the client may touch, and the rest.
    pub fn sort<T>(&self, named: Vec<T>, may: impl Fn(&Self, &T) -> bool) -> (Vec<T>, Vec<T>) {
        named.into_iter().partition(|one| may(self, one))
    }
}

/// Somebody who may do everything.
pub struct Everything;

impl Rights for Everything {
    fn may(&self, _: Operation, _: Resource<'_>) -> bool {
        true
    }
}

#[cfg(test)]
#[path = "authorize_tests.rs"]
mod tests;
