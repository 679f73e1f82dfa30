//! What Kafka's brokers are told of logs, beyond the defaults of topic configs.

use super::why::{CLEANER, FLUSHED, IN_MS, ONE_DIR, THREADS, TIERED};
use super::{BrokerConfig, Change, Value, row};
use crate::model::config_def::{Check, ConfigType};

use Change::{Anywhere, OneBroker, Restart};
use Check::{Any, Between, Threads};
use ConfigType::{Boolean, Double, Int, List, Long, String as Str};
use Value::{Fact, Idle, Setting};

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;

/// By name.
#[rustfmt::skip]
pub(super) const ROWS: &[BrokerConfig] = &[
    row("cordoned.log.dirs", List, Some(""), Any, OneBroker, Idle(ONE_DIR), ""),
    row("follower.fetch.last.tiered.offset.enable", Boolean, Some("false"), Any, Anywhere, Idle(TIERED), ""),
    row("log.cleaner.backoff.ms", Long, Some("15000"), Between(0, LONG_MAX), Anywhere, Setting(|s| Some(s.live.compaction_check_ms.to_string())), "How often logs that are worth compacting are looked for."),
    row("log.cleaner.dedupe.buffer.size", Long, Some("134217728"), Any, Anywhere, Setting(|s| Some(s.live.compaction_bytes.to_string())), "Memory for the keys of logs under compaction, all shards."),
    row("log.cleaner.enable", Boolean, Some("true"), Any, Restart, Fact(|_| Some("true".into())), "Compaction is always on."),
    row("log.cleaner.io.buffer.load.factor", Double, Some("0.9"), Any, Anywhere, Idle(CLEANER), ""),
    row("log.cleaner.io.buffer.size", Int, Some("524288"), Between(0, INT_MAX), Anywhere, Idle(CLEANER), ""),
    row("log.cleaner.io.max.bytes.per.second", Double, Some("1.7976931348623157E308"), Any, Anywhere, Setting(|s| Some(s.live.compaction_rate_text())), "Bytes that compaction reads and writes a second, all shards."),
    row("log.cleaner.threads", Int, Some("1"), Threads, Anywhere, Idle(THREADS), ""),
    row("log.dir", List, Some("/tmp/kafka-logs"), Any, Restart, Fact(|s| Some(s.log_dir.clone())), "The directory that holds partitions."),
    row("log.dir.failure.timeout.ms", Long, Some("30000"), Between(1, LONG_MAX), Restart, Idle(ONE_DIR), ""),
    row("log.dirs", List, None, Any, Restart, Fact(|s| Some(s.log_dir.clone())), "The directory that holds partitions."),
    row("log.flush.offset.checkpoint.interval.ms", Int, Some("60000"), Between(0, INT_MAX), Restart, Idle(FLUSHED), ""),
    row("log.flush.scheduler.interval.ms", Long, Some("9223372036854775807"), Any, Restart, Idle(FLUSHED), ""),
    row("log.flush.start.offset.checkpoint.interval.ms", Int, Some("60000"), Between(0, INT_MAX), Restart, Idle(FLUSHED), ""),
    row("log.retention.check.interval.ms", Long, Some("300000"), Between(1, LONG_MAX), Restart, Setting(|s| Some(s.retention_check_ms.to_string())), "How often segments past their topic's retention are looked for."),
    row("log.retention.hours", Int, Some("168"), Any, Restart, Idle(IN_MS), ""),
    row("log.retention.minutes", Int, None, Any, Restart, Idle(IN_MS), ""),
    row("log.roll.hours", Int, Some("168"), Between(1, INT_MAX), Restart, Idle(IN_MS), ""),
    row("log.roll.jitter.hours", Int, Some("0"), Between(0, INT_MAX), Restart, Idle(IN_MS), ""),
    row("remote.fetch.max.wait.ms", Int, Some("500"), Between(1, INT_MAX), Anywhere, Idle(TIERED), ""),
    row("remote.list.offsets.request.timeout.ms", Long, Some("30000"), Between(1, LONG_MAX), Anywhere, Idle(TIERED), ""),
    row("remote.log.index.file.cache.total.size.bytes", Long, Some("1073741824"), Between(1, LONG_MAX), Anywhere, Idle(TIERED), ""),
    row("remote.log.manager.copier.thread.pool.size", Int, Some("10"), Threads, Anywhere, Idle(TIERED), ""),
    row("remote.log.manager.copy.max.bytes.per.second", Long, Some("9223372036854775807"), Between(1, LONG_MAX), Anywhere, Idle(TIERED), ""),
    row("remote.log.manager.copy.quota.window.num", Int, Some("11"), Between(1, INT_MAX), Restart, Idle(TIERED), ""),
    row("remote.log.manager.copy.quota.window.size.seconds", Int, Some("1"), Between(1, INT_MAX), Restart, Idle(TIERED), ""),
    row("remote.log.manager.expiration.thread.pool.size", Int, Some("10"), Threads, Anywhere, Idle(TIERED), ""),
    row("remote.log.manager.fetch.max.bytes.per.second", Long, Some("9223372036854775807"), Between(1, LONG_MAX), Anywhere, Idle(TIERED), ""),
    row("remote.log.manager.fetch.quota.window.num", Int, Some("11"), Between(1, INT_MAX), Restart, Idle(TIERED), ""),
    row("remote.log.manager.fetch.quota.window.size.seconds", Int, Some("1"), Between(1, INT_MAX), Restart, Idle(TIERED), ""),
    row("remote.log.manager.follower.thread.pool.size", Int, Some("2"), Threads, Anywhere, Idle(TIERED), ""),
    row("remote.log.manager.task.interval.ms", Long, Some("30000"), Between(1, LONG_MAX), Restart, Idle(TIERED), ""),
    row("remote.log.manager.thread.pool.size", Int, Some("2"), Between(1, INT_MAX), Restart, Idle(TIERED), ""),
    row("remote.log.metadata.custom.metadata.max.bytes", Int, Some("128"), Between(0, INT_MAX), Restart, Idle(TIERED), ""),
    row("remote.log.metadata.manager.class.name", Str, Some("org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager"), Any, Restart, Idle(TIERED), ""),
    row("remote.log.metadata.manager.class.path", Str, None, Any, Restart, Idle(TIERED), ""),
    row("remote.log.metadata.manager.impl.prefix", Str, Some("rlmm.config."), Any, Restart, Idle(TIERED), ""),
    row("remote.log.metadata.manager.listener.name", Str, None, Any, Restart, Idle(TIERED), ""),
    row("remote.log.reader.max.pending.tasks", Int, Some("100"), Between(1, INT_MAX), Restart, Idle(TIERED), ""),
    row("remote.log.reader.threads", Int, Some("10"), Threads, Anywhere, Idle(TIERED), ""),
    row("remote.log.storage.manager.class.name", Str, None, Any, Restart, Idle(TIERED), ""),
    row("remote.log.storage.manager.class.path", Str, None, Any, Restart, Idle(TIERED), ""),
    row("remote.log.storage.manager.impl.prefix", Str, Some("rsm.config."), Any, Restart, Idle(TIERED), ""),
    row("remote.log.storage.system.enable", Boolean, Some("false"), Any, Restart, Fact(|_| Some("false".into())), "Tiered storage is not offered."),
];
