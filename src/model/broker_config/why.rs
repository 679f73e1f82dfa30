//! Why a config of Kafka's has no effect here; each ends a sentence that begins with "Without effect here:".

pub(super) const ALONE: &str = "brokers have ways of their own with each other, which nobody has to set.";
pub(super) const AT_ONCE: &str = "a transaction is aborted when its time is up.";
pub(super) const AUTH: &str = "clients are not authenticated, and all may do everything.";
pub(super) const CLASSES: &str = "no Java classes can be loaded.";
pub(super) const CLEANER: &str = "each shard compacts one log at a time, in slices of its own size.";
pub(super) const COORDINATOR: &str =
    "coordinators keep their state in memory and write it with the shard's other records.";
pub(super) const FLUSHED: &str = "every acknowledged record is on disk already.";
pub(super) const GROUPS: &str = "the group protocol that it is for is not served.";
pub(super) const IN_MS: &str = "times are set in milliseconds, or with a unit.";
pub(super) const KERNEL: &str = "the kernel's own choice stands.";
pub(super) const METRICS: &str = "metrics are served over HTTP, as they are at that moment.";
pub(super) const ONE_DIR: &str = "there is one data directory; a disk that fails ends the broker.";
pub(super) const PAGES: &str = "pages of DescribeTopicPartitions are bounded by what the client asks for.";
pub(super) const PURGATORY: &str = "who waits is forgotten at once when done.";
pub(super) const QUEUE: &str = "requests in memory are bounded by `request_memory`.";
pub(super) const SASL: &str = "clients are not authenticated.";
pub(super) const TELEMETRY: &str = "clients' metrics are not taken.";
pub(super) const THREADS: &str = "each core has one event loop; `shards` says how many.";
pub(super) const TIERED: &str = "tiered storage is not offered.";
pub(super) const TLS: &str = "TLS is not spoken.";
pub(super) const TWO_PHASE: &str = "transactions of external coordinators are not offered.";
