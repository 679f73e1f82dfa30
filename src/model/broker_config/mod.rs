//! Broker configuration as Kafka's tools see it: every name that Kafka 4.3 has, each of which is a setting of ours,
//! the default of a topic config, a fact about this broker, or kept and shown without effect.
//!
//! Which of them may be changed while the broker runs, and for whom, is Kafka's rule (KIP-226). `docs/configs.md` is
//! made from this table.

mod broker;
mod coordinators;
mod logs;
mod security;
mod why;

use std::sync::OnceLock;

use super::config_def::{Check, ConfigDef, ConfigType};
use super::settings::BrokerSettings;
use super::topic_config::{FOREVER, TOPIC_CONFIGS};

/// How a config may be changed while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Not at all.
    Restart,
    /// For one broker, or for all that do not set it themselves.
    Anywhere,
    /// For one broker only.
    OneBroker,
    /// For one listener only, under the listener's prefix.
    Listener,
}

/// What a broker config is here.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// The default of this topic config.
    Topic(&'static str),
    /// What a setting of ours says.
    Setting(fn(&BrokerSettings) -> Option<String>),
    /// What is so, whatever anybody sets.
    Fact(fn(&BrokerSettings) -> Option<String>),
    /// Kept and shown; the text says why nothing follows from it.
    Idle(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct BrokerConfig {
    pub def: ConfigDef,
    pub change: Change,
    pub value: Value,
}

impl BrokerConfig {
    pub fn is_dynamic(&self) -> bool {
        self.change != Change::Restart
    }
}

const fn row(
    name: &'static str,
    kind: ConfigType,
    default: Option<&'static str>,
    check: Check,
    change: Change,
    value: Value,
    doc: &'static str,
) -> BrokerConfig {
    let idle = match value {
        Value::Idle(why) => Some(why),
        _ => None,
    };
    BrokerConfig {
        def: ConfigDef { name, kind, default, check, broker_name: None, doc, idle },
        change,
        value,
    }
}

/// Every broker config, by name.
pub fn broker_configs() -> &'static [BrokerConfig] {
    static ALL: OnceLock<Vec<BrokerConfig>> = OnceLock::new();
    ALL.get_or_init(|| {
        let rows = [broker::ROWS, coordinators::ROWS, logs::ROWS, security::ROWS];
        let mut all: Vec<_> = rows.into_iter().flatten().copied().collect();
        all.extend(TOPIC_CONFIGS.iter().filter_map(of_topic));
        all.sort_by_key(|config| config.def.name);
        all
    })
}

/// The broker config that gives a topic config's default.
fn of_topic(def: &ConfigDef) -> Option<BrokerConfig> {
    let name = def.broker_name?;
    // Kafka has these in hours, too, and takes them from there where they are not set.
    let (default, check) = match name {
        "log.retention.ms" => (None, Check::NotZero),
        "log.roll.ms" | "log.roll.jitter.ms" => (None, def.check),
        "log.flush.interval.ms" => (None, Check::Any),
        "log.retention.bytes" => (def.default, Check::Any),
        _ => (def.default, def.check),
    };
    let def = ConfigDef { name, default, check, broker_name: None, ..*def };
    let value = Value::Topic(TOPIC_CONFIGS.iter().find(|d| d.broker_name == Some(name))?.name);
    Some(BrokerConfig { def, change: Change::Anywhere, value })
}

/// Names that are shown only where they are set, as Kafka does with them: bytes a second that a broker's replication may take.
pub const HIDDEN: &[BrokerConfig] = &[
    hidden(
        "follower.replication.throttled.rate",
        Value::Setting(|s| rate(s.live.follower_rate)),
        FOLLOWER_RATE,
    ),
    hidden("leader.replication.throttled.rate", Value::Setting(|s| rate(s.live.leader_rate)), LEADER_RATE),
    hidden("replica.alter.log.dirs.io.max.bytes.per.second", Value::Idle(why::ALONE), ""),
];

const FOLLOWER_RATE: &str =
    "Bytes a second that the broker copies of replicas that are throttled as followers.";
const LEADER_RATE: &str =
    "Bytes a second that others may copy from the broker of replicas that are throttled as leaders.";

fn rate(rate: u64) -> Option<String> {
    Some(if rate == u64::MAX { FOREVER.to_owned() } else { rate.to_string() })
}

const fn hidden(name: &'static str, value: Value, doc: &'static str) -> BrokerConfig {
    row(name, ConfigType::Long, Some(FOREVER), Check::Between(0, i64::MAX), Change::Anywhere, value, doc)
}

pub fn broker_config(name: &str) -> Option<&'static BrokerConfig> {
    let all = broker_configs();
    let shown = all.binary_search_by(|config| config.def.name.cmp(name)).ok().map(|at| &all[at]);
    shown.or_else(|| HIDDEN.iter().find(|config| config.def.name == name))
}

/// Names that say the same, the one that wins first; of most there is only one.
pub fn synonyms(name: &'static str) -> &'static [&'static str] {
    const ROLL: &[&str] = &["log.roll.ms", "log.roll.hours"];
    const JITTER: &[&str] = &["log.roll.jitter.ms", "log.roll.jitter.hours"];
    const FLUSH: &[&str] = &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"];
    const RETENTION: &[&str] = &["log.retention.ms", "log.retention.minutes", "log.retention.hours"];
    let known = [ROLL, JITTER, RETENTION].into_iter().find(|names| names.contains(&name));
    // The scheduler's interval stands in for the other, and not the other way round.
    known.or((name == FLUSH[0]).then_some(FLUSH)).unwrap_or(&[])
}

/// What the broker was started with, where that says anything about this name.
pub fn static_value(settings: &BrokerSettings, config: &BrokerConfig) -> Option<String> {
    match config.value {
        Value::Topic(name) => settings.topic_defaults.get(name).cloned(),
        Value::Setting(read) | Value::Fact(read) => read(settings),
        Value::Idle(_) => None,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
