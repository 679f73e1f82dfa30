//! Topic configuration: every name that Kafka knows with its type, default and bounds, and [`TopicConfig`],
//! the resolved, typed form that the data path reads.
//!
//! Overrides travel and are stored as strings; they are checked with [`validate`] before they are stored, so
//! resolving never fails: a value that no longer parses keeps the default.

use super::config_def::{Check, ConfigDef, ConfigType, list_items, parse_bool, parse_double};
use super::throttled;

use Check::{Any, Between, GzipLevel, ListOf, OneOf, Ratio, ThrottledReplicas};
use ConfigType::{Boolean, Double, Int, List, Long, String as Str};

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;
pub const FOREVER: &str = "9223372036854775807";

const fn def(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    check: Check,
    broker_name: Option<&'static str>,
    doc: &'static str,
) -> ConfigDef {
    ConfigDef { name, kind, default: Some(default), check, broker_name, doc, idle: None }
}

const ON_DISK: &str = "every acknowledged record is on disk already.";
const ONE_REPLICA: &str = "a partition has one replica, and needs no other.";
const TIERED: &str = "tiered storage is not offered.";
const OWN_INDEX: &str = "segments have an index of another form, which needs no bound.";

/// Kept and shown only.
const fn idle(def: ConfigDef, why: &'static str) -> ConfigDef {
    ConfigDef { idle: Some(why), ..def }
}

/// Opts a topic out of waiting for the disk before an ack.
pub const WRITE_CACHING: &str = "write.caching";
/// How much of a produced batch is looked at before it is acknowledged.
pub const RECORD_VALIDATION: &str = "record.validation";
/// Kafka's own hidden name for a segment size below `segment.bytes`' minimum; for tests.
pub const INTERNAL_SEGMENT_BYTES: &str = "internal.segment.bytes";

/// In the order in which they are described: by name.
#[rustfmt::skip]
pub const TOPIC_CONFIGS: &[ConfigDef] = &[
    def("cleanup.policy", List, "delete", ListOf(&["compact", "delete"]), Some("log.cleanup.policy"),
        "What happens to old records: \"delete\" drops whole segments past their time or size, \"compact\" keeps the latest record of each key; both may be given, separated by a comma."),
    def("compression.gzip.level", Int, "-1", GzipLevel, Some("compression.gzip.level"),
        "Compression level where compression.type is gzip."),
    def("compression.lz4.level", Int, "9", Between(1, 17), Some("compression.lz4.level"),
        "Compression level where compression.type is lz4."),
    def("compression.type", Str, "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), Some("compression.type"),
        "The codec batches are stored with; \"producer\" keeps what the producer chose."),
    def("compression.zstd.level", Int, "3", Between(-131_072, 22), Some("compression.zstd.level"),
        "Compression level where compression.type is zstd."),
    def("delete.retention.ms", Long, "86400000", Between(0, LONG_MAX), Some("log.cleaner.delete.retention.ms"),
        "How long a tombstone of a compacted topic stays readable."),
    def("file.delete.delay.ms", Long, "60000", Between(0, LONG_MAX), Some("log.segment.delete.delay.ms"),
        "How long a deleted segment's files stay on disk."),
    idle(def("flush.messages", Long, FOREVER, Between(1, LONG_MAX), Some("log.flush.interval.messages"),
        "After how many records the log is forced to disk."), ON_DISK),
    idle(def("flush.ms", Long, FOREVER, Between(0, LONG_MAX), Some("log.flush.interval.ms"),
        "After how long records are forced to disk."), ON_DISK),
    def("follower.replication.throttled.replicas", List, "", ThrottledReplicas, None,
        "Replicas, as partition:broker pairs or *, whose replication is throttled on the follower."),
    idle(def("index.interval.bytes", Int, "4096", Between(0, INT_MAX), Some("log.index.interval.bytes"),
        "Bytes of records between two entries of the offset index."), OWN_INDEX),
    def("leader.replication.throttled.replicas", List, "", ThrottledReplicas, None,
        "Replicas, as partition:broker pairs or *, whose replication is throttled on the leader."),
    idle(def("local.retention.bytes", Long, "-2", Between(-2, LONG_MAX), Some("log.local.retention.bytes"),
        "Tiered storage: size kept locally; -2 follows retention.bytes."), TIERED),
    idle(def("local.retention.ms", Long, "-2", Between(-2, LONG_MAX), Some("log.local.retention.ms"),
        "Tiered storage: time kept locally; -2 follows retention.ms."), TIERED),
    def("max.compaction.lag.ms", Long, FOREVER, Between(1, LONG_MAX), Some("log.cleaner.max.compaction.lag.ms"),
        "The longest a record may stay uncompacted."),
    def("max.message.bytes", Int, "1048588", Between(0, INT_MAX), Some("message.max.bytes"),
        "The largest batch accepted, measured as sent, that is after compression."),
    def("message.timestamp.after.max.ms", Long, "3600000", Between(0, LONG_MAX), Some("log.message.timestamp.after.max.ms"),
        "How far a CreateTime timestamp may lie ahead of the broker's clock."),
    def("message.timestamp.before.max.ms", Long, FOREVER, Between(0, LONG_MAX), Some("log.message.timestamp.before.max.ms"),
        "How far a CreateTime timestamp may lie behind the broker's clock."),
    def("message.timestamp.type", Str, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), Some("log.message.timestamp.type"),
        "Whether a record's timestamp is the producer's or the broker's."),
    def("min.cleanable.dirty.ratio", Double, "0.5", Ratio, Some("log.cleaner.min.cleanable.ratio"),
        "The part of a compacted log that must be uncompacted before it is compacted again."),
    def("min.compaction.lag.ms", Long, "0", Between(0, LONG_MAX), Some("log.cleaner.min.compaction.lag.ms"),
        "The shortest a record stays uncompacted."),
    def("min.insync.replicas", Int, "1", Between(1, INT_MAX), Some("min.insync.replicas"),
        "Replicas that must have a record before acks=all is answered; where nobody says, two from three replicas on, else one."),
    idle(def("preallocate", Boolean, "false", Any, Some("log.preallocate"),
        "Whether a new segment's file is allocated at its full size."), "segments are allocated in chunks as they are written."),
    def(RECORD_VALIDATION, Str, "full", OneOf(&["full", "header"]), None,
        "What is made sure of before a batch is acknowledged: \"full\", that every record of it can be read, as Kafka does; \"header\", that its checksum and header are right. Weir's own."),
    idle(def("remote.log.copy.disable", Boolean, "false", Any, None,
        "Tiered storage: stop copying to remote storage."), TIERED),
    idle(def("remote.log.delete.on.disable", Boolean, "false", Any, None,
        "Tiered storage: delete remote data when it is turned off."), TIERED),
    idle(def("remote.storage.enable", Boolean, "false", OneOf(&["false"]), None,
        "Whether segments go to remote storage."), TIERED),
    def("retention.bytes", Long, "-1", Between(i64::MIN, LONG_MAX), Some("log.retention.bytes"),
        "The size past which a partition's oldest segments are deleted; -1 for no limit."),
    def("retention.ms", Long, "604800000", Between(-1, LONG_MAX), Some("log.retention.ms"),
        "The age past which segments are deleted; -1 for no limit."),
    def("segment.bytes", Int, "1073741824", Between(1_048_576, INT_MAX), Some("log.segment.bytes"),
        "The size at which a new segment begins."),
    idle(def("segment.index.bytes", Int, "10485760", Between(4, INT_MAX), Some("log.index.size.max.bytes"),
        "The largest size of a segment's offset index."), OWN_INDEX),
    def("segment.jitter.ms", Long, "0", Between(0, LONG_MAX), Some("log.roll.jitter.ms"),
        "A random part taken off segment.ms so that segments do not all roll at once."),
    def("segment.ms", Long, "604800000", Between(1, LONG_MAX), Some("log.roll.ms"),
        "The age at which a new segment begins even if the old one is not full."),
    idle(def("unclean.leader.election.enable", Boolean, "false", Any, Some("unclean.leader.election.enable"),
        "Whether a replica that may lack records can become leader."), ONE_REPLICA),
    def(WRITE_CACHING, Boolean, "false", Any, None,
        "Acknowledge from memory, before the record is on disk. Weir's own."),
];

/// Accepted, never described.
const HIDDEN: &[ConfigDef] =
    &[def(INTERNAL_SEGMENT_BYTES, Int, "", Between(1024, INT_MAX), None, "Segment size, for tests.")];

pub fn topic_config(name: &str) -> Option<&'static ConfigDef> {
    match TOPIC_CONFIGS.binary_search_by(|def| def.name.cmp(name)) {
        Ok(at) => Some(&TOPIC_CONFIGS[at]),
        Err(_) => HIDDEN.iter().find(|def| def.name == name),
    }
}

/// Checks one override; the error is a sentence for the user.
pub fn validate(name: &str, value: &str) -> Result<(), String> {
    match topic_config(name) {
        Some(def) => def.validate(value),
        None => Err(format!("Unknown topic config name: {}", super::config_def::shorten(name))),
    }
}

/// Checks overrides, each of which is right by itself, against each other.
pub fn check_together<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), String> {
    let config = TopicConfig::resolve(values);
    let (min, max) = (config.min_compaction_lag_ms, config.max_compaction_lag_ms);
    match min > max {
        true => Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )),
        false => Ok(()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// What is made sure of before a batch is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordValidation {
    /// That every record can be read.
    Full,
    /// That the checksum and the header are right; records are the producer's word.
    Header,
}

/// What a topic's partitions run with: defaults, then the broker's, then the topic's own.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    pub cleanup_policy: CleanupPolicy,
    pub compression_gzip_level: i32,
    pub compression_lz4_level: i32,
    pub compression_type: CompressionType,
    pub compression_zstd_level: i32,
    pub delete_retention_ms: i64,
    pub file_delete_delay_ms: i64,
    pub follower_throttled: throttled::ThrottledReplicas,
    pub index_interval_bytes: u32,
    pub leader_throttled: throttled::ThrottledReplicas,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: usize,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: i32,
    pub preallocate: bool,
    pub record_validation: RecordValidation,
    /// Negative for no limit.
    pub retention_bytes: i64,
    /// Negative for no limit.
    pub retention_ms: i64,
    pub segment_bytes: u64,
    pub segment_index_bytes: u64,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
    pub unclean_leader_election: bool,
    /// Acknowledge before the record is on disk.
    pub write_caching: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            cleanup_policy: CleanupPolicy { delete: true, compact: false },
            compression_gzip_level: -1,
            compression_lz4_level: 9,
            compression_type: CompressionType::Producer,
            compression_zstd_level: 3,
            delete_retention_ms: 86_400_000,
            file_delete_delay_ms: 60_000,
            follower_throttled: throttled::ThrottledReplicas::None,
            index_interval_bytes: 4096,
            leader_throttled: throttled::ThrottledReplicas::None,
            max_compaction_lag_ms: i64::MAX,
            max_message_bytes: 1_048_588,
            message_timestamp_after_max_ms: 3_600_000,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_type: TimestampType::CreateTime,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            min_insync_replicas: 1,
            preallocate: false,
            record_validation: RecordValidation::Full,
            retention_bytes: -1,
            retention_ms: 604_800_000,
            segment_bytes: 1 << 30,
            segment_index_bytes: 10 << 20,
            segment_jitter_ms: 0,
            segment_ms: 604_800_000,
            unclean_leader_election: false,
            write_caching: false,
        }
    }
}

impl TopicConfig {
    /// Applies `(name, value)` pairs over the defaults, later ones winning.
    pub fn resolve<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut config = Self::default();
        for (name, value) in values {
            config.set(name, value.trim());
        }
        config
    }

    fn set(&mut self, name: &str, value: &str) {
        match name {
            "cleanup.policy" => {
                let has = |policy| list_items(value).any(|item| item == policy);
                self.cleanup_policy = CleanupPolicy { delete: has("delete"), compact: has("compact") };
            }
            "compression.gzip.level" => put(&mut self.compression_gzip_level, value),
            "compression.lz4.level" => put(&mut self.compression_lz4_level, value),
            "compression.type" => self.compression_type = compression_type(value),
            "compression.zstd.level" => put(&mut self.compression_zstd_level, value),
            "delete.retention.ms" => put(&mut self.delete_retention_ms, value),
            "file.delete.delay.ms" => put(&mut self.file_delete_delay_ms, value),
            "follower.replication.throttled.replicas" => {
                self.follower_throttled = throttled::ThrottledReplicas::parse(value);
            }
            "leader.replication.throttled.replicas" => {
                self.leader_throttled = throttled::ThrottledReplicas::parse(value);
            }
            "index.interval.bytes" => put(&mut self.index_interval_bytes, value),
            "max.compaction.lag.ms" => put(&mut self.max_compaction_lag_ms, value),
            "max.message.bytes" => put(&mut self.max_message_bytes, value),
            "message.timestamp.after.max.ms" => put(&mut self.message_timestamp_after_max_ms, value),
            "message.timestamp.before.max.ms" => put(&mut self.message_timestamp_before_max_ms, value),
            "message.timestamp.type" => {
                self.message_timestamp_type = match value {
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => TimestampType::CreateTime,
                }
            }
            "min.cleanable.dirty.ratio" => {
                let ratio = parse_double(value);
                self.min_cleanable_dirty_ratio = ratio.unwrap_or(self.min_cleanable_dirty_ratio);
            }
            "min.compaction.lag.ms" => put(&mut self.min_compaction_lag_ms, value),
            "min.insync.replicas" => put(&mut self.min_insync_replicas, value),
            "preallocate" => put_bool(&mut self.preallocate, value),
            RECORD_VALIDATION => {
                self.record_validation = match value {
                    "header" => RecordValidation::Header,
                    _ => RecordValidation::Full,
                }
            }
            "retention.bytes" => put(&mut self.retention_bytes, value),
            "retention.ms" => put(&mut self.retention_ms, value),
            "segment.bytes" | INTERNAL_SEGMENT_BYTES => put(&mut self.segment_bytes, value),
            "segment.index.bytes" => put(&mut self.segment_index_bytes, value),
            "segment.jitter.ms" => put(&mut self.segment_jitter_ms, value),
            "segment.ms" => put(&mut self.segment_ms, value),
            "unclean.leader.election.enable" => put_bool(&mut self.unclean_leader_election, value),
            WRITE_CACHING => put_bool(&mut self.write_caching, value),
            _ => {}
        }
    }
}

fn put<T: std::str::FromStr>(field: &mut T, value: &str) {
    if let Ok(value) = value.parse() {
        *field = value;
    }
}

fn put_bool(field: &mut bool, value: &str) {
    if let Some(value) = parse_bool(value) {
        *field = value;
    }
}

fn compression_type(value: &str) -> CompressionType {
    match value {
        "uncompressed" => CompressionType::Uncompressed,
        "gzip" => CompressionType::Gzip,
        "snappy" => CompressionType::Snappy,
        "lz4" => CompressionType::Lz4,
        "zstd" => CompressionType::Zstd,
        _ => CompressionType::Producer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_the_structs() {
        assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
        for def in TOPIC_CONFIGS {
            assert_eq!(def.default.map_or(Ok(()), |value| def.validate(value)), Ok(()), "{}", def.name);
            assert!(!def.doc.is_empty());
        }
        let defaults = TOPIC_CONFIGS.iter().filter_map(|def| Some((def.name, def.default?)));
        assert_eq!(TopicConfig::resolve(defaults), TopicConfig::default());
    }

    #[test]
    fn overrides_apply_in_order() {
        let config = TopicConfig::resolve([
            ("cleanup.policy", "compact, delete"),
            ("retention.ms", "5"),
            ("retention.ms", "-1"),
            ("segment.bytes", "rubbish"),
            ("write.caching", "TRUE"),
            ("message.timestamp.type", "LogAppendTime"),
        ]);
        assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: true });
        assert_eq!(config.retention_ms, -1);
        assert_eq!(config.segment_bytes, 1 << 30);
        assert!(config.write_caching);
        assert_eq!(config.message_timestamp_type, TimestampType::LogAppendTime);
    }

    #[test]
    fn unknown_names_and_bad_values_are_refused() {
        assert!(validate("retention.ms", "1000").is_ok());
        assert!(validate("retention.ms", "-2").unwrap_err().contains("retention.ms"));
        assert!(validate("retention.msx", "1").unwrap_err().contains("Unknown topic config name"));
        assert!(validate("segment.bytes", "1024").is_err());
        assert!(validate("internal.segment.bytes", "65536").is_ok());
        assert!(validate("cleanup.policy", "delete,shred").is_err());
        assert!(validate("cleanup.policy", "compact,compact").is_ok());
    }
}
