//! What the broker runs with, made of its settings. The table of settings is the only place of defaults, so the defaults
//! of what is made of it are here too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Config, Machine, Sources};
use crate::model::listener::{DEFAULT_LISTENER, Listener, SecurityProtocol};
use crate::model::settings::{BrokerSettings, GroupSettings, TransactionSettings};
use crate::model::{Live, limits};

/// How often a checkpoint is made where nothing asks for one sooner.
const CHECKPOINT_MS: u64 = 5_000;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn signed_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Segment files that a shard keeps open where descriptors are plenty.
const OPEN_SEGMENTS: usize = 128;

impl Config {
    /// Everything but the directories, for a listener that was bound to this address.
    pub fn broker_settings(&self, bound: SocketAddr) -> BrokerSettings {
        // Every connection's buffers are small there; the kernel's count against a cgroup's limit, too.
        let small = self.memory < 1 << 30;
        let advertised = self.advertised(bound);
        let listener = Listener {
            name: DEFAULT_LISTENER.into(),
            protocol: SecurityProtocol::Plaintext,
            bind: bound,
            host: advertised.host.clone(),
            port: advertised.port,
        };
        BrokerSettings {
            broker_id: self.broker_id.unwrap_or(1),
            advertised_host: advertised.host,
            advertised_port: advertised.port,
            rack: self.rack.clone(),
            recovery: [0; 16],
            follows: false,
            listeners: vec![Arc::new(listener)],
            cluster_listener: None,
            log_dir: String::new(),
            meta_dir: String::new(),
            auto_create_topics: self.auto_create_topics,
            delete_topics: self.delete_topics,
            num_partitions: self.default_partitions,
            topic_defaults: self.topic_defaults.clone(),
            max_frame_bytes: self.max_request_size,
            max_in_flight: limits::MAX_IN_FLIGHT,
            send_buffer_bytes: self.send_buffer as usize,
            receive_buffer_bytes: if small { self.send_buffer as usize } else { 0 },
            input_buffer_bytes: if small { 16 << 10 } else { 64 << 10 },
            send_zerocopy: self.send_zerocopy,
            connections_possible: usize::MAX,
            open_segments: OPEN_SEGMENTS,
            idle_connection_ms: ms(self.connection_idle_timeout),
            request_memory_bytes: self.request_memory as usize,
            fetch_max_bytes: self.fetch_max_bytes,
            fetch_session_slots: self.fetch_sessions,
            cache_bytes: self.cache_memory as usize,
            tail_bytes: self.tail_memory as usize,
            journal_file_bytes: self.journal_file_size.unwrap_or(64 << 20) as usize,
            journal_max_files: self.journal_max_files.unwrap_or(16),
            replay_bytes: (self.memory / 4) as usize,
            flush_chunk_bytes: self.flush_chunk as usize,
            journal_bypass_bytes: self.journal_bypass as usize,
            groups: self.groups.clone(),
            transactions: self.transactions.clone(),
            cluster: self.cluster.clone(),
            live: self.live(),
            disk_reserve_bytes: self.disk_reserve as usize,
            retention_check_ms: ms(self.retention_check_interval),
            checkpoint_ms: CHECKPOINT_MS,
            scrub_rate: self.scrub_rate as usize,
            scrub_interval_ms: ms(self.scrub_interval),
        }
    }

    fn live(&self) -> Live {
        Live {
            max_connections: self.max_connections,
            max_connections_per_ip: self.max_connections_per_ip,
            max_connections_of: self.max_connections_per_ip_overrides.clone(),
            max_connection_rate: self.max_connection_rate,
            producer_id_expiration_ms: signed_ms(self.producer_id_expiration),
            verify_transactions: self.transaction_verification,
            compaction_check_ms: ms(self.compaction_interval),
            compaction_bytes: self.compaction_memory as usize,
            compaction_rate: self.compaction_rate,
            follower_rate: u64::MAX,
            leader_rate: u64::MAX,
        }
    }
}

/// What `weir serve` runs with on a machine of one core and 2.5 GiB where nothing is set.
impl Default for BrokerSettings {
    fn default() -> Self {
        let machine = Machine { cores: 1, memory: 2560 << 20 };
        let config = Sources::default().build(&machine).expect("defaults are in bounds; a test builds them");
        let bound = config.listen;
        BrokerSettings {
            log_dir: "weir-data/topics".into(),
            meta_dir: "weir-data/meta".into(),
            ..config.broker_settings(bound)
        }
    }
}

impl Default for GroupSettings {
    fn default() -> Self {
        BrokerSettings::default().groups
    }
}

impl Default for TransactionSettings {
    fn default() -> Self {
        BrokerSettings::default().transactions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::broker_config::{Value, broker_config, broker_configs, static_value};

    /// A setting that has Kafka's name is what that name shows, and no name shows a setting that does not exist.
    #[test]
    fn settings_and_kafkas_names_are_paired() {
        for setting in super::super::settings() {
            let Some(kafka) = setting.kafka else { continue };
            let config = broker_config(kafka).unwrap_or_else(|| panic!("{kafka} is no broker config"));
            assert!(!matches!(config.value, Value::Idle(_)), "{kafka} has no effect");
        }
        for config in broker_configs() {
            let is_setting = matches!(config.value, Value::Setting(_) | Value::Topic(_));
            let named = super::super::settings().iter().any(|setting| setting.kafka == Some(config.def.name));
            assert!(named || !is_setting, "{} has no setting", config.def.name);
        }
    }

    #[test]
    fn defaults_are_kafkas_but_for_these() {
        let settings = BrokerSettings::default();
        let differs = |config: &&crate::model::broker_config::BrokerConfig| {
            matches!(config.value, Value::Setting(_))
                && static_value(&settings, config).as_deref() != config.def.default
        };
        let names: Vec<_> = broker_configs().iter().filter(differs).map(|config| config.def.name).collect();
        assert_eq!(
            names,
            [
                "broker.heartbeat.interval.ms",
                "broker.session.timeout.ms",
                "default.replication.factor",
                "log.cleaner.dedupe.buffer.size",
                "log.retention.check.interval.ms",
                "max.connections",
                "socket.send.buffer.bytes",
            ]
        );
    }
}
