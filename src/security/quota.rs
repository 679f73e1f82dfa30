//! Client quotas (KIP-13, KIP-124, KIP-546): which limit applies to whom, and how long who is over it has to wait.
//!
//! A limit belongs to a user, a client id, a user's client id, or the default of any of these; the most precise one
//! applies ([`Table::limit`]). Who shares a limit shares a [`Window`]: all connections of a user under a user's limit,
//! all of a client id under a client id's.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub const USER: &str = "user";
pub const CLIENT_ID: &str = "client-id";
pub const IP: &str = "ip";

pub const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
pub const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
pub const REQUEST_PERCENTAGE: &str = "request_percentage";

/// Limits that may be set at once, over all entities.
pub const MAX_LIMITS: usize = 20_000;
const WHOLE_SECONDS: usize = 10;
/// Whole seconds and the one that has begun.
const SAMPLES: usize = WHOLE_SECONDS + 1;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Name {
    /// Whoever has no limit of his own.
    Default,
    Named(String),
}

/// Whom a limit is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entity {
    pub user: Option<Name>,
    pub client_id: Option<Name>,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Bytes of produce requests a second.
    Produce,
    /// Bytes of fetch responses a second.
    Fetch,
    /// The share of one core's time, in percent.
    Request,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Produce, Kind::Fetch, Kind::Request];

    pub fn key(self) -> &'static str {
        match self {
            Kind::Produce => PRODUCER_BYTE_RATE,
            Kind::Fetch => CONSUMER_BYTE_RATE,
            Kind::Request => REQUEST_PERCENTAGE,
        }
    }
}

/// Who shares a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    pub kind: Kind,
    pub user: Option<String>,
    pub client_id: Option<String>,
}

/// Every limit that is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    entries: BTreeMap<Entity, BTreeMap<String, f64>>,
}

impl Table {
    pub fn set(&mut self, entity: &Entity, key: &str, value: Option<f64>) {
        match value {
            Some(value) => {
                self.entries.entry(entity.clone()).or_default().insert(key.to_owned(), value);
            }
            None => {
                if let Some(limits) = self.entries.get_mut(entity) {
                    limits.remove(key);
                    if limits.is_empty() {
                        self.entries.remove(entity);
                    }
                }
            }
        }
    }

    pub fn get(&self, entity: &Entity) -> Option<&BTreeMap<String, f64>> {
        self.entries.get(entity)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Entity, &BTreeMap<String, f64>)> {
        self.entries.iter()
    }

    pub fn limits(&self) -> usize {
        self.entries.values().map(BTreeMap::len).sum()
    }

    /// Whether anybody has a limit of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.entries.values().any(|limits| limits.contains_key(kind.key()))
    }

    /// The limit that applies to a client, and who shares it.
    pub fn limit(&self, kind: Kind, user: &str, client_id: &str) -> Option<(Holder, f64)> {
        let named = |name: &str| Some(Name::Named(name.to_owned()));
        let default = Some(Name::Default);
        let order = [
            (named(user), named(client_id)),
            (named(user), default.clone()),
            (named(user), None),
            (default.clone(), named(client_id)),
            (default.clone(), default.clone()),
            (default.clone(), None),
            (None, named(client_id)),
            (None, default),
        ];
        order.into_iter().find_map(|(of_user, of_client)| {
            let shares = (of_user.is_some(), of_client.is_some());
            let entity = Entity { user: of_user, client_id: of_client };
            let limit = *self.entries.get(&entity)?.get(kind.key())?;
            let holder = Holder {
                kind,
                user: shares.0.then(|| user.to_owned()),
                client_id: shares.1.then(|| client_id.to_owned()),
            };
            Some((holder, limit))
        })
    }
}

/// Checks one limit; the error is a sentence for the user.
pub fn check(key: &str, value: f64) -> Result<(), String> {
    let whole = match key {
        PRODUCER_BYTE_RATE | CONSUMER_BYTE_RATE => true,
        REQUEST_PERCENTAGE => false,
        "controller_mutation_rate" => return Err(format!("{key} is not enforced by this broker")),
        _ => return Err(format!("Invalid configuration key {key}")),
    };
    // Also what is not a number.
    if value.is_nan() || value <= 0.0 {
        return Err(format!("Quota {key} must be greater than 0"));
    }
    if whole && value > i64::MAX as f64 {
        return Err(format!("Proposed value for {key} is too large for a LONG."));
    }
    if whole && value % 1.0 > 1e-6 {
        return Err(format!("{key} cannot be a fractional value."));
    }
    Ok(())
}

/// What was used in the last ten seconds and the one that has begun. Time is counted from any fixed moment.
#[derive(Clone, Debug, Default)]
pub struct Window {
    second: u64,
    samples: [f64; SAMPLES],
}

impl Window {
    /// What a limit allows before it makes anybody wait, if nothing was used before.
    pub fn burst(limit: f64) -> f64 {
        limit * WHOLE_SECONDS as f64
    }

    /// Counts something, or with a negative amount takes it back.
    pub fn add(&mut self, now: Duration, amount: f64) {
        let second = now.as_secs();
        if second > self.second {
            let passed = second - self.second;
            for step in 1..=passed.min(SAMPLES as u64) {
                self.samples[((self.second + step) % SAMPLES as u64) as usize] = 0.0;
            }
            if passed >= SAMPLES as u64 {
                self.samples = [0.0; SAMPLES];
            }
            self.second = second;
        }
        self.samples[(self.second % SAMPLES as u64) as usize] += amount;
    }

    fn used(&self) -> f64 {
        self.samples.iter().sum()
    }

    /// Whether nothing that was counted matters any more.
    pub fn is_over(&self, now: Duration) -> bool {
        now.as_secs() >= self.second + SAMPLES as u64
    }

    /// How long to wait so that what was used comes down to the limit, in whole milliseconds.
    pub fn wait(&mut self, now: Duration, limit: f64) -> Duration {
        self.add(now, 0.0);
        let elapsed = WHOLE_SECONDS as f64 + f64::from(now.subsec_nanos()) / 1e9;
        let over = self.used() / elapsed - limit;
        if over <= 0.0 {
            return Duration::ZERO;
        }
        let ms = (over / limit * elapsed * 1000.0).round().clamp(0.0, f64::from(i32::MAX));
        Duration::from_millis(ms as u64)
    }
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
