//! What the controller goes by, for the whole cluster.

use crate::metadata::MIN_INSYNC;
use crate::metadata::records::Record;
use crate::model::settings::ClusterSettings;

/// Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Replicas of topics that are created without a factor; fewer while there are fewer brokers.
    pub default_replication_factor: usize,
    /// How long a broker may be silent before it is fenced.
    pub session_ms: i64,
    /// How long a replica is in sync before it is made the leader that it is preferred to be.
    pub settled_ms: i64,
    /// How often leaders are returned and factors raised.
    pub balance_ms: i64,
    /// Whether replicas and preferred leaders are moved to where they had best be, without anybody asking for it.
    pub balance: bool,
    /// How often it is looked where that is.
    pub plan_ms: i64,
    /// How long a broker is fenced before what it holds is moved elsewhere.
    pub dead_ms: i64,
    /// How long a topic is left alone that somebody has moved.
    pub by_hand_ms: i64,
}

impl Rules {
    pub fn of(settings: &ClusterSettings) -> Self {
        Self {
            default_replication_factor: settings.default_replication_factor,
            session_ms: settings.session_ms,
            balance: settings.balance,
            ..Self::default()
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            default_replication_factor: 3,
            session_ms: 6_000,
            settled_ms: 30_000,
            balance_ms: 5_000,
            balance: true,
            plan_ms: 10_000,
            dead_ms: 600_000,
            by_hand_ms: 600_000,
        }
    }
}

/// Whether it may change how many have to be in sync for something to be committed.
pub fn changes_terms(record: &Record) -> bool {
    matches!(record, Record::Config { name, .. } if name == MIN_INSYNC)
}
