//! Whose a config override is.

use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, TopicId};

/// Which thing a config override belongs to. Format 1 stores it by its variants' order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Owner {
    Topic(TopicId),
    Broker(BrokerId),
    /// All brokers that do not set it themselves.
    EveryBroker,
    Group(String),
    /// A subscription to clients' metrics.
    ClientMetrics(String),
}
