//! Every setting: its name, its default as text, what it accepts, and one line of help.
//!
//! This table, with the defaults of topic configs that [`super::topic_defaults`] adds, is the only list, and the only
//! place of defaults. The flags of `weir serve`, the `WEIR_*` variables, the keys of the TOML
//! file and the messages about them are all read from it.

use std::sync::OnceLock;

use super::setting::Setting;
use super::topic_defaults;
use crate::model::config_def::ConfigDef;
use crate::model::topic_config::TOPIC_CONFIGS;

const fn setting(
    name: &'static str,
    default: &'static str,
    allowed: &'static str,
    help: &'static str,
) -> Setting {
    Setting { name, default, allowed, help, kafka: None }
}

/// A setting that Kafka's brokers have too.
const fn kafka(
    kafka: &'static str,
    name: &'static str,
    default: &'static str,
    allowed: &'static str,
    help: &'static str,
) -> Setting {
    Setting { kafka: Some(kafka), ..setting(name, default, allowed, help) }
}

const SIZE: &str = "a size such as 512MiB, 2GiB or 25% (of the memory this process may use)";
const DURATION: &str = "a duration such as 500ms, 30s or 10m";

#[rustfmt::skip]
const OWN: &[Setting] = &[
    setting("data_dir", "./weir-data", "a directory", "Where topics, journals and metadata are kept"),
    kafka("listeners", "listen", "127.0.0.1:9092", "an IP address and port such as 127.0.0.1:9092 or 0.0.0.0:9092",
        "Address that Kafka clients connect to"),
    setting("cluster_listen", "auto", "an IP address and port such as 127.0.0.1:9093, or auto",
        "Address that other brokers connect to; auto: the port after the listen address's or, if that is taken, any"),
    kafka("advertised.listeners", "advertised", "auto", "a host name or address and a port such as broker.example:9092, or auto",
        "Host and port that clients are told to use; auto: the listen address"),
    setting("admin", "127.0.0.1:9644", "an IP address and port such as 127.0.0.1:9644, or off",
        "Address of the HTTP server for health and metrics"),
    kafka("broker.id", "broker_id", "auto", "a number from 0 to 2147483647, or auto",
        "This broker's node id; auto: 1 for the first broker of a cluster, and given to others when they join"),
    setting("join", "none", "a host name or address and a port such as broker.example:9092, or none",
        "Any broker of a cluster that this one is to join, by the address that clients use; needed once"),
    setting("shards", "auto", "a number from 1 to 256, or auto",
        "Event loops, each pinned to a core; auto: one for each core this process may use"),
    setting("cache_memory", "10%", SIZE, "Memory for recent batches already in segments, all shards"),
    setting("tail_memory", "5%", SIZE, "Memory for batches that only the journal holds yet, all shards"),
    setting("request_memory", "10%", SIZE, "Memory for requests being received or answered, all shards"),
    setting("journal_file_size", "auto", "a size from 1MiB to 4GiB, or auto",
        "Size of one journal file; auto: up to 64MiB, less on a small file system"),
    setting("journal_max_files", "auto", "a number from 2 to 1024, or auto",
        "Most journal files a shard may use; auto: up to 16, so that all take an eighth of the file system at most"),
    setting("flush_chunk", "1MiB", "a size from 64KiB to 64MiB",
        "A partition's tail goes to its segment once it holds this much"),
    setting("journal_bypass", "512KiB", "a size from 0 (never) to 64MiB",
        "Where this much of a partition waits for the journal, its batches go straight to their segment"),
    kafka("auto.create.topics.enable", "auto_create_topics", "true", "true or false", "Create a topic when a client first names it"),
    kafka("num.partitions", "default_partitions", "1", "a number from 1 to 100000",
        "Partitions of a topic created without saying how many"),
    kafka("socket.request.max.bytes", "max_request_size", "100MiB", "a size from 1MiB to 100MiB", "Largest request a client may send"),
    kafka("socket.send.buffer.bytes", "send_buffer", "1MiB", "a size from 0 (the kernel's own choice) to 1GiB", "What the kernel holds of responses unsent or unacknowledged, for one connection"),
    kafka("broker.rack", "rack", "none", "a name of at most 256 bytes, or none",
        "The rack that this broker stands in, as clients are told it"),
    kafka("delete.topic.enable", "delete_topics", "true", "true or false", "Whether topics may be deleted"),
    kafka("fetch.max.bytes", "fetch_max_bytes", "55MiB", "a size from 1KiB to 2047MiB",
        "Largest answer to one fetch"),
    kafka("max.connections.per.ip", "max_connections_per_ip", "2147483647", "a number from 0 to 2147483647",
        "Most connections of one address at once"),
    kafka("max.connections.per.ip.overrides", "max_connections_per_ip_overrides", "none",
        "IP addresses and counts such as 10.0.0.7:500,[::1]:20, or none",
        "Addresses with another limit of connections"),
    kafka("max.connection.creation.rate", "max_connection_rate", "2147483647", "a number from 1 to 2147483647",
        "Connections accepted a second; more wait"),
    setting("send_zerocopy", "false", "true or false",
        "Send large responses to other machines from the cache itself, without the kernel's copy"),
    kafka("max.connections", "max_connections", "20000", "a number from 1 to 1000000", "Most client connections at once"),
    kafka("connections.max.idle.ms", "connection_idle_timeout", "10m", DURATION, "Close a connection that sent nothing for this long"),
    kafka("max.incremental.fetch.session.cache.slots", "fetch_sessions", "1000", "a number from 0 to 100000",
        "Incremental fetch sessions kept, all shards"),
    kafka("group.initial.rebalance.delay.ms", "group_initial_rebalance_delay", "3s", DURATION,
        "How long an empty consumer group waits for more members after the first"),
    kafka("group.max.size", "group_max_size", "2147483647", "a number from 1 to 2147483647", "Most members of a consumer group"),
    kafka("group.min.session.timeout.ms", "group_min_session_timeout", "6s", DURATION,
        "Shortest session timeout that a group's member may ask for"),
    kafka("group.max.session.timeout.ms", "group_max_session_timeout", "30m", DURATION,
        "Longest session timeout that a group's member may ask for"),
    kafka("offset.metadata.max.bytes", "offset_metadata_max", "4096", "a number from 0 to 2147483647",
        "Longest metadata of a committed offset"),
    kafka("offsets.retention.check.interval.ms", "offsets_retention_check_interval", "10m", DURATION,
        "How often offsets that have expired are looked for"),
    kafka("offsets.topic.num.partitions", "offsets_topic_partitions", "50", "a number from 1 to 10000",
        "Partitions of __consumer_offsets when it is created"),
    kafka("offsets.topic.segment.bytes", "offsets_topic_segment_size", "100MiB", "a size from 1MiB to 2047MiB",
        "Segment size of __consumer_offsets when it is created"),
    kafka("transaction.state.log.num.partitions", "transaction_topic_partitions", "50",
        "a number from 1 to 10000", "Partitions of __transaction_state when it is created"),
    kafka("transaction.state.log.segment.bytes", "transaction_topic_segment_size", "100MiB",
        "a size from 1MiB to 2047MiB", "Segment size of __transaction_state when it is created"),
    kafka("transaction.max.timeout.ms", "transaction_max_timeout", "15m", DURATION,
        "Longest timeout that a transaction may ask for"),
    kafka("transaction.partition.verification.enable", "transaction_verification", "true", "true or false",
        "Whether a transaction's coordinator is asked before a partition takes its first batch"),
    kafka("transactional.id.expiration.ms", "transactional_id_expiration", "168h", DURATION,
        "How long an idle transactional id is remembered"),
    kafka("transaction.remove.expired.transaction.cleanup.interval.ms", "transactional_id_check_interval", "1h",
        DURATION, "How often transactional ids that have expired are looked for"),
    kafka("producer.id.expiration.ms", "producer_id_expiration", "24h", DURATION,
        "How long an idle producer's sequence numbers are remembered"),
    kafka("offsets.retention.minutes", "offsets_retention", "168h", DURATION,
        "How long an empty consumer group's offsets are kept"),
    setting("disk_reserve", "1GiB", "a size such as 512MiB or 2GiB",
        "Room on the disk that producers may not take, at most a tenth of it: the journal and metadata need it"),
    kafka("log.retention.check.interval.ms", "retention_check_interval", "60s", DURATION,
        "How often segments past their topic's retention are looked for"),
    kafka("log.cleaner.dedupe.buffer.size", "compaction_memory", "64MiB", SIZE,
        "Memory for the keys of logs under compaction, all shards; what does not fit takes another pass"),
    kafka("log.cleaner.backoff.ms", "compaction_interval", "15s", DURATION, "How often logs that are worth compacting are looked for"),
    kafka("log.cleaner.io.max.bytes.per.second", "compaction_rate", "unlimited",
        "a size from 1KiB, or unlimited", "Bytes that compaction reads and writes a second, all shards"),
    setting("scrub_rate", "8MiB", "a size from 0 (off) to 1GiB",
        "Bytes a second, all shards, that are read back from cold segments to find damage early"),
    setting("scrub_interval", "24h", DURATION, "How long the reading back rests between two passes"),
    kafka("default.replication.factor", "default_replication_factor", "auto", "a number from 1 to 32, or auto",
        "Replicas of a topic created without saying how many, fewer while there are fewer brokers; auto: 3"),
    kafka("broker.session.timeout.ms", "broker_session_timeout", "6s", "a duration from 1s to 1h",
        "How long a broker may be silent before others lead what it led; the same on all brokers"),
    kafka("broker.heartbeat.interval.ms", "broker_heartbeat_interval", "1s", "a duration from 50ms to 10m",
        "How often a broker says that it lives; at most a third of the session"),
    kafka("replica.lag.time.max.ms", "replica_lag_time_max", "30s", "a duration from 100ms to 24h",
        "How long a replica may be behind its leader before that goes on without it"),
    setting("quorum_voters", "auto", "1, 3, 5 or auto",
        "Brokers that agree on the metadata, fewer while there are fewer; auto: 3, from seven brokers on 5; the same on all brokers"),
    setting("quorum_replace_after", "10m", "a duration from 1s to 720h",
        "How long one of them may be gone before another broker takes its place; the same on all brokers"),
    setting("balance", "auto", "auto or off",
        "Whether replicas and leaders are moved by themselves so that brokers have their shares; the controller's counts"),
    setting("catch_up_rate", "auto", "a size from 1KiB, unlimited, or auto",
        "Bytes a second at which a broker copies what it is far behind with; auto: 64MiB, and more while that does not suffice"),
    setting("shutdown_timeout", "30s", DURATION, "Longest that a graceful shutdown may take"),
    setting("log_level", "info", "off, error, warn, info, debug or trace", "What is written to stderr"),
];

/// Every setting, those that are the defaults of topic configs last.
pub fn settings() -> &'static [Setting] {
    static ALL: OnceLock<Vec<Setting>> = OnceLock::new();
    ALL.get_or_init(|| OWN.iter().cloned().chain(topic_defaults::settings()).collect())
}

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    settings().iter().find(|s| s.name == name)
}

/// The settings that are the defaults of topic configs, with those.
pub(super) fn of_topics() -> impl Iterator<Item = (&'static Setting, &'static ConfigDef)> {
    let of = |setting: &'static Setting| {
        let name = setting.kafka?;
        Some((setting, TOPIC_CONFIGS.iter().find(|def| def.broker_name == Some(name))?))
    };
    settings().iter().filter_map(of)
}
