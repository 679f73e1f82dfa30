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
    /// What a client that is shown its rights to a resource of this type is shown.
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

/// The rule by which it is decided who, connected from where, may do what to what.
#[derive(Clone, Copy, Debug)]
pub struct Access(pub fn(&Principal, IpAddr, Operation, &Resource<'_>) -> bool);

impl Access {
    /// There is no authorizer: everybody may do everything.
    pub const OPEN: Self = Self(|_, _, _, _| true);

    pub fn allows(
        self,
        principal: &Principal,
        host: IpAddr,
        operation: Operation,
        resource: &Resource<'_>,
    ) -> bool {
        (self.0)(principal, host, operation, resource)
    }
}
