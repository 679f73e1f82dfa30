//! Settings of `weir serve`: one set of names for flags, `WEIR_*` variables and the TOML file.
//!
//! `data_dir` in the file is `--data-dir` on the command line and `WEIR_DATA_DIR` in the environment;
//! a flag wins over the environment, the environment over the file, the file over the default.
//! Parsing gathers texts and where each came from ([`Sources`]); building turns them once into a
//! validated [`Config`], which nothing changes afterwards. Every problem is reported, not only the first,
//! and each names its setting, where it was set, and what is allowed.
//!
//! Defaults are here and nowhere else: [`crate::model::BrokerSettings`] is made of a [`Config`]. The defaults of topic
//! configs are settings too, by Kafka's names with `_` for `.`.
//!
//! Never here: opening sockets or files other than the TOML file itself.

mod build;
#[cfg(test)]
mod documented;
mod machine;
mod setting;
mod settings;
mod sources;
mod suggest;
mod table;
mod topic_defaults;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::model::listener::{CLUSTER_LISTENER, Listener, SecurityProtocol};
use crate::model::settings::{ClusterSettings, GroupSettings, TransactionSettings};

pub use machine::Machine;
pub use setting::Setting;
pub use sources::{Source, Sources};
pub use suggest::{closest, did_you_mean};
pub use table::settings;
pub use values::{HostPort, parse_duration, parse_size};

/// What one broker process runs with. Memory and journal figures marked "all shards" are divided among
/// them by whoever builds the shards.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What this process may use of the machine's memory.
    pub memory: u64,
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// Where other brokers connect; `None` is the port after `listen`'s, or any.
    pub cluster_listen: Option<SocketAddr>,
    /// What clients are told; `None` is the address that `listen` was bound to.
    pub advertised: Option<HostPort>,
    /// `None` when switched off.
    pub admin: Option<SocketAddr>,
    /// `None` where nobody has said: the first broker of a cluster is 1, others are given theirs.
    pub broker_id: Option<i32>,
    /// Any broker of the cluster to join, by the address that clients use.
    pub join: Option<HostPort>,
    pub shards: usize,
    /// Flushed batches kept for readers, all shards.
    pub cache_memory: u64,
    /// Batches that the journal protects and no segment holds yet, all shards.
    pub tail_memory: u64,
    /// Requests being received or answered, all shards.
    pub request_memory: u64,
    /// One journal file; each shard has its own journal. `None` follows the file system.
    pub journal_file_size: Option<u64>,
    /// Most files that one shard's journal may grow to. `None` follows the file system.
    pub journal_max_files: Option<usize>,
    /// A partition's tail is written to its segment once it holds this much.
    pub flush_chunk: u64,
    /// A partition of which so much waits for the journal goes straight to its segment; zero for never.
    pub journal_bypass: u64,
    pub auto_create_topics: bool,
    pub delete_topics: bool,
    pub default_partitions: i32,
    /// What applies to topics that do not say otherwise, by the topic configs' names; only what was set.
    pub topic_defaults: BTreeMap<String, String>,
    pub rack: Option<String>,
    pub max_request_size: usize,
    pub send_buffer: u64,
    pub send_zerocopy: bool,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub max_connections_per_ip_overrides: Vec<(IpAddr, usize)>,
    /// Connections a second.
    pub max_connection_rate: usize,
    pub connection_idle_timeout: Duration,
    pub fetch_max_bytes: usize,
    pub fetch_sessions: usize,
    pub groups: GroupSettings,
    pub transactions: TransactionSettings,
    pub transaction_verification: bool,
    pub producer_id_expiration: Duration,
    /// Room on the disk that clients' records never take.
    pub disk_reserve: u64,
    /// How often segments are held against their topic's retention.
    pub retention_check_interval: Duration,
    pub compaction_memory: u64,
    pub compaction_interval: Duration,
    /// Bytes a second, all shards; `u64::MAX` for no limit.
    pub compaction_rate: u64,
    /// Bytes a second that the scrubber reads; zero turns it off.
    pub scrub_rate: u64,
    pub scrub_interval: Duration,
    pub cluster: ClusterSettings,
    pub shutdown_timeout: Duration,
    pub log_level: log::LevelFilter,
}

impl Config {
    /// The host and port that clients are told to connect to, once the listener is bound.
    pub fn advertised(&self, bound: SocketAddr) -> HostPort {
        self.advertised
            .clone()
            .unwrap_or_else(|| HostPort { host: bound.ip().to_string(), port: bound.port() })
    }

    /// Where other brokers are told to connect, once that listener is bound.
    pub fn cluster_listener(&self, kafka: SocketAddr, bound: SocketAddr) -> Listener {
        Listener {
            name: CLUSTER_LISTENER.into(),
            protocol: SecurityProtocol::Plaintext,
            bind: bound,
            host: match bound.ip().is_unspecified() {
                true => self.advertised(kafka).host,
                false => bound.ip().to_string(),
            },
            port: bound.port(),
        }
    }

    /// The defaults on this machine with nothing set, for tests and tools.
    pub fn for_directory(data_dir: impl Into<PathBuf>) -> Result<Config, ConfigError> {
        let mut sources = Sources::default();
        sources.flag("data_dir", data_dir.into().to_string_lossy());
        sources.build(&Machine::here())
    }
}

/// One thing wrong with the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The setting as the user wrote it, for example `WEIR_SHARDS` or `shards in weir.toml`.
    pub setting: String,
    pub message: String,
}

/// Everything wrong with the settings; `weir serve` prints it and exits with 2.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{}: {}", problem.setting, problem.message)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
