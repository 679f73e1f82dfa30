//! Who may do what: operations and resources by Kafka's names and codes, and the one decision.

use std::net::IpAddr;

use super::principal::Principal;

/// What may be done to a resource, with its code in ACLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

/// What it may be done to, with its code in ACLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceType {
    Topic = 2,
    Group = 3,
    Cluster = 4,
    TransactionalId = 5,
}

impl ResourceType {
    /// What may be done to a resource of this type at all.
    pub const fn operations(self) -> &'static [Operation] {
        use Operation::*;
        match self {
            Self::Topic => &[Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs],
            Self::Group => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
            Self::Cluster => {
                &[Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite]
            }
            Self::TransactionalId => &[Write, Describe],
        }
    }
}

/// One resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    Cluster,
    TransactionalId(&'a str),
}

impl Resource<'_> {
    pub fn kind(&self) -> ResourceType {
        match self {
            Self::Topic(_) => ResourceType::Topic,
            Self::Group(_) => ResourceType::Group,
            Self::Cluster => ResourceType::Cluster,
            Self::TransactionalId(_) => ResourceType::TransactionalId,
        }
    }
}

/// The rules by which it is decided.
#[derive(Clone, Copy, Debug, Default)]
pub enum Access {
    /// There is no authorizer: everybody may do everything.
    #[default]
    Open,
    #[cfg(test)]
    Decided(fn(Operation, &Resource<'_>) -> bool),
}

impl Access {
    pub fn allows(&self, _: &Principal, _: IpAddr, operation: Operation, resource: &Resource<'_>) -> bool {
        debug_assert!(resource.kind().operations().contains(&operation), "{operation:?} of {resource:?}");
        match self {
            Self::Open => true,
            #[cfg(test)]
            Self::Decided(decide) => decide(operation, resource),
        }
    }
}
