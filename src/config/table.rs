//! Every setting: its name, its default as text, what it accepts, and one line of help.
//!
//! This table is the only list. The flags of `weir serve`, the `WEIR_*` variables, the keys of the TOML
//! file and the messages about them are all read from it.

/// One setting. `default` is parsed by the same code as a value from the user.
#[derive(Debug)]
pub struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub allowed: &'static str,
    pub help: &'static str,
}

const fn setting(
    name: &'static str,
    default: &'static str,
    allowed: &'static str,
    help: &'static str,
) -> Setting {
    Setting { name, default, allowed, help }
}

const SIZE: &str = "a size such as 512MiB, 2GiB or 25% (of the memory this process may use)";
const DURATION: &str = "a duration such as 500ms, 30s or 10m";

#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    setting("data_dir", "./weir-data", "a directory", "Where topics, journals and metadata are kept"),
    setting("listen", "127.0.0.1:9092", "an IP address and port such as 127.0.0.1:9092 or 0.0.0.0:9092",
        "Address that Kafka clients connect to"),
    setting("advertised", "auto", "a host name or address and a port such as broker.example:9092, or auto",
        "Host and port that clients are told to use; auto: the listen address"),
    setting("admin", "127.0.0.1:9644", "an IP address and port such as 127.0.0.1:9644, or off",
        "Address of the HTTP server for health and metrics"),
    setting("broker_id", "1", "a number from 0 to 2147483647", "This broker's node id"),
    setting("shards", "auto", "a number from 1 to 256, or auto",
        "Event loops, each pinned to a core; auto: one for each core this process may use"),
    setting("cache_memory", "10%", SIZE, "Memory for recent batches already in segments, all shards"),
    setting("tail_memory", "5%", SIZE, "Memory for batches that only the journal holds yet, all shards"),
    setting("request_memory", "10%", SIZE, "Memory for requests being received or answered, all shards"),
    setting("journal_file_size", "64MiB", "a size from 1MiB to 4GiB", "Size of one journal file"),
    setting("journal_max_files", "16", "a number from 2 to 1024", "Most journal files a shard may use"),
    setting("flush_chunk", "1MiB", "a size from 64KiB to 64MiB",
        "A partition's tail goes to its segment once it holds this much"),
    setting("journal_bypass", "512KiB", "a size from 0 (never) to 64MiB",
        "Where this much of a partition waits for the journal, its batches go straight to their segment"),
    setting("auto_create_topics", "true", "true or false", "Create a topic when a client first names it"),
    setting("default_partitions", "1", "a number from 1 to 100000",
        "Partitions of a topic created without saying how many"),
    setting("max_request_size", "100MiB", "a size from 1MiB to 100MiB", "Largest request a client may send"),
    setting("send_buffer", "1MiB", "a size from 0 (the kernel's own choice) to 1GiB", "What the kernel holds of responses unsent or unacknowledged, for one connection"),
    setting("send_zerocopy", "false", "true or false",
        "Send large responses to other machines from the cache itself, without the kernel's copy"),
    setting("max_connections", "20000", "a number from 1 to 1000000", "Most client connections at once"),
    setting("connection_idle_timeout", "10m", DURATION, "Close a connection that sent nothing for this long"),
    setting("fetch_sessions", "1000", "a number from 0 to 100000",
        "Incremental fetch sessions kept, all shards"),
    setting("group_initial_rebalance_delay", "3s", DURATION,
        "How long an empty consumer group waits for more members after the first"),
    setting("group_max_size", "2147483647", "a number from 1 to 2147483647", "Most members of a consumer group"),
    setting("offsets_retention", "168h", DURATION,
        "How long an empty consumer group's offsets are kept"),
    setting("disk_reserve", "1GiB", "a size such as 512MiB or 2GiB",
        "Room on the disk that producers may not take, at most a tenth of it: the journal and metadata need it"),
    setting("retention_check_interval", "60s", DURATION,
        "How often segments past their topic's retention are looked for"),
    setting("compaction_memory", "64MiB", SIZE,
        "Memory for the keys of logs under compaction, all shards; what does not fit takes another pass"),
    setting("compaction_interval", "15s", DURATION, "How often logs that are worth compacting are looked for"),
    setting("scrub_rate", "8MiB", "a size from 0 (off) to 1GiB",
        "Bytes a second, all shards, that are read back from cold segments to find damage early"),
    setting("scrub_interval", "24h", DURATION, "How long the reading back rests between two passes"),
    setting("shutdown_timeout", "30s", DURATION, "Longest that a graceful shutdown may take"),
    setting("log_level", "info", "off, error, warn, info, debug or trace", "What is written to stderr"),
];

impl Setting {
    pub fn find(name: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|s| s.name == name)
    }

    /// The name as a flag without its dashes: `data-dir`.
    pub fn flag_name(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The name as a variable: `WEIR_DATA_DIR`.
    pub fn variable(&self) -> String {
        format!("WEIR_{}", self.name.to_ascii_uppercase())
    }
}
