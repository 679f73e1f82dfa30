//! Who a connection speaks for.

use std::fmt;
use std::sync::Arc;

/// A principal of Kafka's type `User`, the only type there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody has authenticated.
    #[default]
    Anonymous,
    User(Arc<str>),
}

impl Principal {
    /// The name by which quotas and ACLs know it.
    pub fn name(&self) -> &str {
        match self {
            Self::Anonymous => "ANONYMOUS",
            Self::User(name) => name,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User:{}", self.name())
    }
}
