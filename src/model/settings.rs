//! What one broker is told at start: identity, limits and memory budgets. Built once from the configuration, which has
//! the only defaults, then only read. Sizes are for the whole broker; a shard takes its share with `per_shard`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ids::BrokerId;
use super::listener::Listener;
use super::live::Live;

/// Consumer groups, by Kafka's names.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSettings {
    /// Partitions of `__consumer_offsets` when it is created.
    pub topic_partitions: i32,
    /// Segment size of `__consumer_offsets` when it is created.
    pub topic_segment_bytes: i32,
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

/// Transactions, by Kafka's names.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionSettings {
    /// Partitions of `__transaction_state` when it is created.
    pub topic_partitions: i32,
    /// Segment size of `__transaction_state` when it is created.
    pub topic_segment_bytes: i32,
    /// `transaction.max.timeout.ms`
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`
    pub id_expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`
    pub id_check_ms: i64,
}

/// What brokers go by among each other, by Kafka's names.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    /// Replicas of topics that are created without a factor; fewer while there are fewer brokers.
    pub default_replication_factor: usize,
    /// `broker.session.timeout.ms`
    pub session_ms: i64,
    /// `broker.heartbeat.interval.ms`
    pub heartbeat_ms: i64,
    /// `replica.lag.time.max.ms`
    pub lag_max_ms: i64,
    /// How many vote on the metadata at most: one, three or five; `None` leaves it to the number of brokers.
    pub quorum_voters: Option<usize>,
    /// How long a voter may be gone before another takes its place.
    pub quorum_replace_after_ms: i64,
    /// Whether the controller moves replicas and leaders to where they had best be.
    pub balance: bool,
    /// Bytes a second at which a broker copies what it is far behind with, all shards; `None`: a pace that suffices.
    pub catch_up_rate: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct BrokerSettings {
    pub broker_id: BrokerId,
    /// Where clients are told to connect; never a wildcard address.
    pub advertised_host: String,
    pub advertised_port: u16,
    pub rack: Option<String>,
    /// Which recovery of its cluster this broker follows: brokers of different ones have nothing to say to each other.
    pub recovery: [u8; 16],
    /// It has followed one, and may have what the metadata does not know.
    pub follows: bool,
    /// At least one.
    pub listeners: Vec<Arc<Listener>>,
    /// Where other brokers are told to connect.
    pub cluster_listener: Option<Arc<Listener>>,
    /// The directory that holds partitions, as tools are told it.
    pub log_dir: String,
    /// The directory that holds metadata, as tools are told it.
    pub meta_dir: String,

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
    /// The same for what has arrived of requests and was not read.
    pub receive_buffer_bytes: usize,
    /// The broker's own buffer for one connection's small requests.
    pub input_buffer_bytes: usize,
    /// Large responses to other machines are sent without a copy.
    pub send_zerocopy: bool,
    /// Client connections at once that descriptors allow, whatever [`Live::max_connections`] says.
    pub connections_possible: usize,
    /// Segment files that each shard keeps open.
    pub open_segments: usize,
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
    /// Bytes of journal files that all shards together read back at once at a start.
    pub replay_bytes: usize,
    /// A partition's tail is written to its segment when it reaches this size.
    pub flush_chunk_bytes: usize,
    /// A partition of which so much waits for the journal goes straight to its segment; zero for never.
    pub journal_bypass_bytes: usize,

    pub groups: GroupSettings,
    pub transactions: TransactionSettings,
    pub cluster: ClusterSettings,
    /// What may be changed while the broker runs, as it was at the start; [`crate::metadata::Image`] has what holds.
    pub live: Live,

    /// Room on the disk that clients' records never take; at most a tenth of the file system.
    pub disk_reserve_bytes: usize,
    pub retention_check_ms: u64,
    pub checkpoint_ms: u64,
    /// Bytes a second that the scrubber reads; zero turns it off.
    pub scrub_rate: usize,
    pub scrub_interval_ms: u64,
}

impl BrokerSettings {
    /// One shard's part of a broker-wide budget.
    pub fn per_shard(&self, budget: usize, shards: usize) -> usize {
        budget / shards.max(1)
    }
}
