//! What one broker is told at start: identity, limits and memory budgets. Built once by `boot` from the
//! configuration, then only read. Sizes are for the whole broker; a shard takes its share with `per_shard`.

use std::collections::BTreeMap;

use super::ids::BrokerId;
use super::limits;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Consumer groups, with Kafka's names and defaults.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// Partitions of `__consumer_offsets` when it is created.
    pub topic_partitions: i32,
    /// How long an empty group waits for more members after the first.
    pub initial_rebalance_delay_ms: i64,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub max_size: usize,
    /// How long a new member may wait for its first generation before it is taken for gone.
    pub new_member_timeout_ms: i64,
    /// Longest metadata of a committed offset, in UTF-16 units.
    pub offset_metadata_max: usize,
    pub offsets_retention_ms: i64,
    pub retention_check_ms: i64,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            topic_partitions: 50,
            initial_rebalance_delay_ms: 3000,
            min_session_timeout_ms: 6000,
            max_session_timeout_ms: 1_800_000,
            max_size: i32::MAX as usize,
            new_member_timeout_ms: 300_000,
            offset_metadata_max: 4096,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            retention_check_ms: 600_000,
        }
    }
}

/// Transactions, with Kafka's names and defaults.
#[derive(Clone, Debug)]
pub struct TransactionSettings {
    /// `transaction.max.timeout.ms`
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`
    pub id_expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`
    pub id_check_ms: i64,
}

impl Default for TransactionSettings {
    fn default() -> Self {
        Self { max_timeout_ms: 900_000, id_expiration_ms: 7 * 24 * 3_600_000, id_check_ms: 3_600_000 }
    }
}

#[derive(Clone, Debug)]
pub struct BrokerSettings {
    pub broker_id: BrokerId,
    /// Where clients are told to connect; never a wildcard address.
    pub advertised_host: String,
    pub advertised_port: u16,
    pub rack: Option<String>,
    /// The directory that holds partitions, as tools are told it.
    pub log_dir: String,

    /// Whether Metadata may create a topic that a client asks for by name.
    pub auto_create_topics: bool,
    /// Whether DeleteTopics is allowed.
    pub delete_topics: bool,
    /// Partitions of a topic created without a count.
    pub num_partitions: i32,
    /// Broker-wide defaults of topic configs, by their topic names; checked against
    /// [`super::topic_config::TOPIC_CONFIGS`] before they get here.
    pub topic_defaults: BTreeMap<String, String>,

    pub max_frame_bytes: usize,
    /// Requests of one connection under way before its socket is no longer read.
    pub max_in_flight: usize,
    /// The kernel's buffer for one connection's responses; 0 leaves it to the kernel.
    pub send_buffer_bytes: usize,
    /// Large responses to other machines are sent without a copy.
    pub send_zerocopy: bool,
    pub max_connections: usize,
    pub idle_connection_ms: u64,
    /// Bytes of request frames in memory; over it, sockets are not read until it falls.
    pub request_memory_bytes: usize,
    /// Largest answer to one Fetch, as Kafka's `fetch.max.bytes`.
    pub fetch_max_bytes: usize,
    pub fetch_session_slots: usize,

    /// Flushed batches kept for readers.
    pub cache_bytes: usize,
    /// Batches that are in the journal but not yet in a segment; a full bound slows producers.
    pub tail_bytes: usize,
    pub journal_file_bytes: usize,
    pub journal_max_files: usize,
    /// A partition's tail is written to its segment when it reaches this size.
    pub flush_chunk_bytes: usize,
    /// A partition of which so much waits for the journal goes straight to its segment; zero for never.
    pub journal_bypass_bytes: usize,

    pub groups: GroupSettings,
    /// Partitions of `__transaction_state` when it is created.
    pub transaction_topic_partitions: i32,
    pub transactions: TransactionSettings,

    pub producer_id_expiration_ms: i64,
    /// Room on the disk that clients' records never take; at most a tenth of the file system.
    pub disk_reserve_bytes: usize,
    pub retention_check_ms: u64,
    /// Memory for the keys of a log under compaction.
    pub compaction_bytes: usize,
    pub compaction_check_ms: u64,
    pub checkpoint_ms: u64,
    /// Bytes a second that the scrubber reads; zero turns it off.
    pub scrub_rate: usize,
    pub scrub_interval_ms: u64,
    pub shutdown_grace_ms: u64,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            broker_id: 1,
            advertised_host: "127.0.0.1".into(),
            advertised_port: 9092,
            rack: None,
            log_dir: "weir-data/topics".into(),
            auto_create_topics: true,
            delete_topics: true,
            num_partitions: 1,
            topic_defaults: BTreeMap::new(),
            max_frame_bytes: limits::MAX_FRAME_BYTES,
            max_in_flight: limits::MAX_IN_FLIGHT,
            send_buffer_bytes: MIB,
            send_zerocopy: false,
            max_connections: 20_000,
            idle_connection_ms: 600_000,
            request_memory_bytes: 256 * MIB,
            fetch_max_bytes: 55 * MIB,
            fetch_session_slots: 1000,
            cache_bytes: 256 * MIB,
            tail_bytes: 128 * MIB,
            journal_file_bytes: 64 * MIB,
            journal_max_files: 8,
            flush_chunk_bytes: MIB,
            journal_bypass_bytes: MIB / 2,
            groups: GroupSettings::default(),
            transaction_topic_partitions: 50,
            transactions: TransactionSettings::default(),
            producer_id_expiration_ms: 86_400_000,
            disk_reserve_bytes: 1024 * MIB,
            retention_check_ms: 300_000,
            compaction_bytes: 64 * MIB,
            compaction_check_ms: 15_000,
            checkpoint_ms: 5_000,
            scrub_rate: 8 * MIB,
            scrub_interval_ms: 86_400_000,
            shutdown_grace_ms: 10_000,
        }
    }
}

impl BrokerSettings {
    /// Budgets that follow the memory the process may use: an eighth each for the cache and for requests in
    /// flight, a sixteenth for tails, between what works at all and what is worth having.
    pub fn sized_for(memory_bytes: u64) -> Self {
        let share = |part: u64, least: usize, most: usize| {
            usize::try_from(memory_bytes / part).unwrap_or(usize::MAX).clamp(least, most)
        };
        Self {
            request_memory_bytes: share(8, 64 * MIB, 4096 * MIB),
            cache_bytes: share(8, 32 * MIB, 8192 * MIB),
            tail_bytes: share(16, 32 * MIB, 2048 * MIB),
            ..Self::default()
        }
    }

    /// One shard's part of a broker-wide budget.
    pub fn per_shard(&self, budget: usize, shards: usize) -> usize {
        budget / shards.max(1)
    }
}
