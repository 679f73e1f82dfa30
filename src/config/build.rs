//! Texts to a validated [`Config`]: every value parsed and bounded, then the rules between settings.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::setting::Setting;
use super::values::{parse_address, parse_bool, parse_duration, parse_size};
use super::{Config, ConfigError, HostPort, Machine, Problem, Sources};
use super::{table, topic_defaults};
use crate::model::config_def::parse_address_counts;
use crate::model::settings::{ClusterSettings, GroupSettings, TransactionSettings};
use crate::model::topic_config;

/// A budget below this leaves no room for one default batch and its neighbours on every shard.
const LEAST_BUDGET: u64 = 16 << 20;
/// How long a new member of a group may wait for its first generation; Kafka's, and no setting there either.
const NEW_MEMBER_TIMEOUT_MS: i64 = 300_000;
/// Replicas of a topic that is created without saying how many, where there are as many brokers.
const REPLICAS: usize = 3;
/// Replicas that a partition may have.
const MOST_REPLICAS: usize = 32;
const INT_MAX: u64 = i32::MAX as u64;

struct Builder<'a> {
    sources: &'a Sources,
    machine: &'a Machine,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    /// The value of a setting. A text that does not parse is a problem, and the default stands in for it
    /// so that the rest can be judged too.
    fn read<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        let setting = table::find(name).expect("every setting read here is in the table");
        if let Some(text) = self.sources.text(name) {
            match parse(text.trim()) {
                Some(value) => return value,
                None => self.reject(setting, format!("{text:?} must be {}", setting.allowed)),
            }
        }
        parse(setting.default).expect("defaults parse; a test reads every one")
    }

    /// A value that the broker finds by itself where nobody has set one: `None`.
    fn auto<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.read(name, |t| if t == "auto" { Some(None) } else { parse(t).map(Some) })
    }

    fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> u64 {
        self.read(name, |t| t.parse().ok().filter(|n| range.contains(n)))
    }

    fn size(&mut self, name: &str, range: RangeInclusive<u64>) -> u64 {
        let memory = self.machine.memory;
        self.read(name, |t| parse_size(t, memory).filter(|n| range.contains(n)))
    }

    /// A duration between two bounds, in milliseconds.
    fn duration(&mut self, name: &str, range: RangeInclusive<u64>) -> Duration {
        self.read(name, |t| parse_duration(t).filter(|d| range.contains(&(d.as_millis() as u64))))
    }

    fn rack(&mut self) -> Option<String> {
        self.read("rack", |t| match t {
            "none" => Some(None),
            _ => (!t.is_empty() && t.len() <= 256).then(|| Some(t.to_owned())),
        })
    }

    fn join(&mut self) -> Option<HostPort> {
        self.read("join", |t| if t == "none" { Some(None) } else { t.parse().ok().map(Some) })
    }

    fn address_counts(&mut self, name: &str) -> Vec<(IpAddr, usize)> {
        self.read(name, |t| match t {
            "none" => Some(Vec::new()),
            _ => parse_address_counts(t).ok(),
        })
    }

    /// Bytes a second; `u64::MAX` for no limit.
    fn rate(&mut self, name: &str) -> u64 {
        self.read(name, |t| match t {
            "unlimited" => Some(u64::MAX),
            _ => parse_size(t, 0).filter(|rate| *rate >= 1 << 10),
        })
    }

    /// A duration of at least a millisecond, as Kafka holds it in an integer.
    fn millis(&mut self, name: &str) -> i32 {
        self.duration(name, 1..=INT_MAX).as_millis() as i32
    }

    fn groups(&mut self) -> GroupSettings {
        let delay = self.read("group_initial_rebalance_delay", parse_duration);
        let retention = self.read("offsets_retention", parse_duration);
        GroupSettings {
            topic_partitions: self.number("offsets_topic_partitions", 1..=10_000) as i32,
            topic_segment_bytes: self.size("offsets_topic_segment_size", 1 << 20..=2047 << 20) as i32,
            initial_rebalance_delay_ms: delay.as_millis() as i64,
            min_session_timeout_ms: self.millis("group_min_session_timeout"),
            max_session_timeout_ms: self.millis("group_max_session_timeout"),
            max_size: self.number("group_max_size", 1..=INT_MAX) as usize,
            new_member_timeout_ms: NEW_MEMBER_TIMEOUT_MS,
            offset_metadata_max: self.number("offset_metadata_max", 0..=INT_MAX) as usize,
            offsets_retention_ms: retention.as_millis() as i64,
            retention_check_ms: self.millis("offsets_retention_check_interval").into(),
        }
    }

    fn cluster(&mut self) -> ClusterSettings {
        let range = 1..=MOST_REPLICAS;
        let factor =
            self.auto("default_replication_factor", |t| t.parse().ok().filter(|n| range.contains(n)));
        let voters = self.auto("quorum_voters", |t| t.parse().ok().filter(|n| [1, 3, 5].contains(n)));
        ClusterSettings {
            default_replication_factor: factor.unwrap_or(REPLICAS),
            session_ms: self.duration("broker_session_timeout", 1_000..=3_600_000).as_millis() as i64,
            heartbeat_ms: self.duration("broker_heartbeat_interval", 50..=600_000).as_millis() as i64,
            lag_max_ms: self.duration("replica_lag_time_max", 100..=86_400_000).as_millis() as i64,
            quorum_voters: voters,
            quorum_replace_after_ms: self
                .duration("quorum_replace_after", 1_000..=30 * 86_400_000)
                .as_millis() as i64,
            balance: self.read("balance", |t| match t {
                "auto" => Some(true),
                "off" => Some(false),
                _ => None,
            }),
            catch_up_rate: self.auto("catch_up_rate", |t| match t {
                "unlimited" => Some(u64::MAX),
                _ => parse_size(t, 0).filter(|rate| *rate >= 1 << 10),
            }),
        }
    }

    fn transactions(&mut self) -> TransactionSettings {
        TransactionSettings {
            topic_partitions: self.number("transaction_topic_partitions", 1..=10_000) as i32,
            topic_segment_bytes: self.size("transaction_topic_segment_size", 1 << 20..=2047 << 20) as i32,
            max_timeout_ms: self.millis("transaction_max_timeout"),
            id_expiration_ms: self.millis("transactional_id_expiration").into(),
            id_check_ms: self.millis("transactional_id_check_interval").into(),
        }
    }

    /// What was set of the defaults of topic configs, by the topic configs' names.
    fn topic_defaults(&mut self) -> BTreeMap<String, String> {
        let mut set = BTreeMap::new();
        for (setting, def) in table::of_topics() {
            let Some(text) = self.sources.text(setting.name) else { continue };
            match topic_defaults::parse(def, text) {
                Ok(value) => drop(set.insert(def.name.to_owned(), value)),
                Err(why) => self.reject(setting, why),
            }
        }
        if let Err(why) = topic_config::check_together(set.iter().map(|(name, value)| (&**name, &**value))) {
            self.problems.push(Problem { setting: "the defaults of topics".to_owned(), message: why });
        }
        set
    }

    /// A memory budget: a default that comes out tiny on a tiny machine is raised, a user's is refused.
    fn budget(&mut self, name: &str) -> u64 {
        let memory = self.machine.memory;
        let bytes = self.read(name, |t| parse_size(t, memory));
        if bytes >= LEAST_BUDGET {
            return bytes;
        }
        let setting = table::find(name).expect("every setting read here is in the table");
        if self.sources.text(name).is_some() {
            self.reject(setting, format!("{bytes} bytes is too little: at least 16MiB"));
        }
        LEAST_BUDGET
    }

    /// A value that nobody has set, brought down to what this machine can bear.
    fn bearable(&self, name: &str, value: u64, most: u64) -> u64 {
        if self.sources.text(name).is_some() { value } else { value.min(most) }
    }

    fn reject(&mut self, setting: &Setting, message: String) {
        self.problems.push(Problem { setting: self.sources.place(setting), message });
    }

    /// Rules between settings, judged only when each value is right by itself.
    fn rules(&mut self, config: &Config) {
        if !self.problems.is_empty() {
            return;
        }
        let setting = |name| table::find(name).expect("every setting read here is in the table");
        if config.listen.ip().is_unspecified() && config.advertised.is_none() {
            let message = format!(
                "must be set when listening on every address ({}): clients need a host and port to connect to",
                config.listen
            );
            self.reject(setting("advertised"), message);
        }
        if let Some(advertised) = config.advertised.as_ref().filter(|a| a.is_wildcard()) {
            let message = format!(
                "{advertised} is every address, and no client can connect to that: \
                 say a host name or an address that leads clients here"
            );
            self.reject(setting("advertised"), message);
        }
        if config.groups.min_session_timeout_ms > config.groups.max_session_timeout_ms {
            let message = "must not be longer than group_max_session_timeout".to_owned();
            self.reject(setting("group_min_session_timeout"), message);
        }
        if config.cluster.heartbeat_ms > config.cluster.session_ms / 3 {
            let message =
                "must be at most a third of broker_session_timeout: one heartbeat may be late".to_owned();
            self.reject(setting("broker_heartbeat_interval"), message);
        }
        if config.max_connections_per_ip == 0 && config.max_connections_per_ip_overrides.is_empty() {
            let message = "can be 0 only where max_connections_per_ip_overrides is set".to_owned();
            self.reject(setting("max_connections_per_ip"), message);
        }
        if config.admin.is_some_and(|a| a == config.listen && a.port() != 0) {
            self.reject(setting("admin"), format!("{} is the listen address too", config.listen));
        }
        let budgets = [config.cache_memory, config.tail_memory, config.request_memory];
        let sum = budgets.iter().fold(0u64, |sum, b| sum.saturating_add(*b));
        let limit = self.machine.memory;
        if sum > limit && limit >= 4 * LEAST_BUDGET {
            let message = format!(
                "cache_memory, tail_memory and request_memory come to {} MiB together, and this process may use {} MiB",
                sum >> 20,
                limit >> 20
            );
            self.reject(setting("cache_memory"), message);
        }
    }
}

impl Sources {
    /// Validates everything, once.
    pub fn build(self, machine: &Machine) -> Result<Config, ConfigError> {
        build(self, machine)
    }
}

fn build(mut sources: Sources, machine: &Machine) -> Result<Config, ConfigError> {
    let problems = sources.take_problems();
    let mut b = Builder { sources: &sources, machine, problems };
    let memory = machine.memory;
    let max_request_size = b.size("max_request_size", 1 << 20..=100 << 20);
    let send_buffer = b.size("send_buffer", 0..=1 << 30);
    let max_connections = b.number("max_connections", 1..=1_000_000);
    let compaction_memory = b.budget("compaction_memory");
    let config = Config {
        memory,
        data_dir: b.read("data_dir", |t| (!t.is_empty()).then(|| t.into())),
        listen: b.read("listen", parse_address),
        cluster_listen: b.auto("cluster_listen", parse_address),
        advertised: b.auto("advertised", |t| t.parse().ok()),
        admin: b.read("admin", |t| match t {
            "off" => Some(None),
            _ => parse_address(t).map(Some),
        }),
        broker_id: b.auto("broker_id", |t| t.parse().ok().filter(|id: &i32| *id >= 0)),
        join: b.join(),
        shards: b.read("shards", |t| match t {
            "auto" => Some(machine.shards()),
            _ => t.parse().ok().filter(|n| (1..=256).contains(n)),
        }),
        cache_memory: b.budget("cache_memory"),
        tail_memory: b.budget("tail_memory"),
        request_memory: b.budget("request_memory"),
        journal_file_size: b
            .auto("journal_file_size", |t| parse_size(t, memory).filter(|n| (1 << 20..=4 << 30).contains(n))),
        journal_max_files: b.auto("journal_max_files", |t| t.parse().ok().filter(|n| (2..=1024).contains(n))),
        flush_chunk: b.size("flush_chunk", 64 << 10..=64 << 20),
        journal_bypass: b.size("journal_bypass", 0..=64 << 20),
        auto_create_topics: b.read("auto_create_topics", parse_bool),
        delete_topics: b.read("delete_topics", parse_bool),
        topic_defaults: b.topic_defaults(),
        rack: b.rack(),
        default_partitions: b.number("default_partitions", 1..=100_000) as i32,
        max_request_size: b.bearable("max_request_size", max_request_size, (memory / 8).max(1 << 20))
            as usize,
        send_buffer: b.bearable("send_buffer", send_buffer, (memory >> 10).max(64 << 10)),
        send_zerocopy: b.read("send_zerocopy", parse_bool),
        max_connections: b.bearable("max_connections", max_connections, (memory >> 16).max(64)) as usize,
        max_connections_per_ip: b.number("max_connections_per_ip", 0..=INT_MAX) as usize,
        max_connections_per_ip_overrides: b.address_counts("max_connections_per_ip_overrides"),
        max_connection_rate: b.number("max_connection_rate", 1..=INT_MAX) as usize,
        connection_idle_timeout: b.read("connection_idle_timeout", parse_duration),
        fetch_max_bytes: b.size("fetch_max_bytes", 1 << 10..=2047 << 20) as usize,
        fetch_sessions: b.number("fetch_sessions", 0..=100_000) as usize,
        groups: b.groups(),
        transactions: b.transactions(),
        transaction_verification: b.read("transaction_verification", parse_bool),
        producer_id_expiration: b.duration("producer_id_expiration", 1..=INT_MAX),
        disk_reserve: b.size("disk_reserve", 0..=1 << 50),
        retention_check_interval: b.read("retention_check_interval", parse_duration),
        compaction_memory: b.bearable("compaction_memory", compaction_memory, (memory / 8).max(LEAST_BUDGET)),
        compaction_interval: b.read("compaction_interval", parse_duration),
        compaction_rate: b.rate("compaction_rate"),
        scrub_rate: b.size("scrub_rate", 0..=1 << 30),
        scrub_interval: b.read("scrub_interval", parse_duration),
        cluster: b.cluster(),
        shutdown_timeout: b.read("shutdown_timeout", parse_duration),
        log_level: b.read("log_level", |t| t.parse().ok()),
    };
    b.rules(&config);
    match b.problems.is_empty() {
        true => Ok(config),
        false => Err(ConfigError { problems: b.problems }),
    }
}
