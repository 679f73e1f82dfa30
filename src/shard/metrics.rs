//! What one shard counts: requests, bytes, errors and latency per API, connections, records.
//!
//! Owned by the shard's thread and never shared: counters are `Cell`s, so counting is an add and a store.
//! What an API needs is allocated when the API is first used; an idle shard keeps almost nothing.
//! `snapshot` copies everything into a `Send` value for the control thread, which merges and renders.
//! Journal figures are the journal's own; whoever takes the snapshot puts them in.

use std::cell::{Cell, OnceCell, RefCell};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::compaction::CompactionSnapshot;
use super::timing::{Timing, TimingSnapshot};
use crate::log::ScrubStats;
use crate::rt::BudgetFigures;
use crate::rt::net::Sent;
use crate::security::quota::Kind;

/// One more than the highest API key that is counted by itself; others share the last place.
const API_SLOTS: usize = 128;
/// Latencies above this are recorded as this.
const LONGEST_US: u64 = 600_000_000;

/// A latency histogram: whole microseconds, two significant digits.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 2).expect("constant bounds are valid")
}

/// Why a connection was closed or a frame refused, apart from errors that an API answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    FrameTooLarge,
    Malformed,
    UnknownApi,
    UnsupportedVersion,
    AcksZeroFailed,
}

impl ProtocolError {
    pub const ALL: [ProtocolError; 5] = [
        ProtocolError::FrameTooLarge,
        ProtocolError::Malformed,
        ProtocolError::UnknownApi,
        ProtocolError::UnsupportedVersion,
        ProtocolError::AcksZeroFailed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            ProtocolError::FrameTooLarge => "frame_too_large",
            ProtocolError::Malformed => "malformed",
            ProtocolError::UnknownApi => "unknown_api",
            ProtocolError::UnsupportedVersion => "unsupported_version",
            ProtocolError::AcksZeroFailed => "acks_zero_failed",
        }
    }
}

/// A counter that only grows.
#[derive(Default, Debug)]
struct Counter(Cell<u64>);

impl Counter {
    fn add(&self, n: u64) {
        self.0.set(self.0.get().wrapping_add(n));
    }

    fn get(&self) -> u64 {
        self.0.get()
    }
}

struct ApiMetrics {
    requests: Counter,
    in_flight: Cell<i64>,
    bytes_in: Counter,
    bytes_out: Counter,
    sum_us: Counter,
    latency: RefCell<Histogram<u64>>,
    /// Few codes ever occur, so a list is searched.
    errors: RefCell<Vec<(i16, u64)>>,
}

impl ApiMetrics {
    fn new() -> Self {
        ApiMetrics {
            requests: Counter::default(),
            in_flight: Cell::new(0),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            sum_us: Counter::default(),
            latency: RefCell::new(latency_histogram()),
            errors: RefCell::new(Vec::new()),
        }
    }
}

/// The counters of one shard. `!Send`: only its own thread counts.
pub struct ShardMetrics {
    shard: usize,
    apis: [OnceCell<Box<ApiMetrics>>; API_SLOTS],
    connections_opened: Counter,
    connections_closed: Counter,
    connections_refused: Counter,
    protocol_errors: [Counter; ProtocolError::ALL.len()],
    produced_batches: Counter,
    produced_records: Counter,
    produced_bytes: Counter,
    fetched_bytes: Counter,
    zerocopy_bytes: Counter,
    /// Where the time of requests goes.
    pub timing: Timing,
    pub compaction: RefCell<CompactionSnapshot>,
    throttled: [Throttled; Kind::ALL.len()],
}

/// Responses that told a client to wait, and for how long.
#[derive(Default)]
struct Throttled {
    responses: Counter,
    ms: Counter,
}

impl ShardMetrics {
    pub fn new(shard: usize) -> Self {
        ShardMetrics {
            shard,
            apis: [const { OnceCell::new() }; API_SLOTS],
            connections_opened: Counter::default(),
            connections_closed: Counter::default(),
            connections_refused: Counter::default(),
            protocol_errors: Default::default(),
            produced_batches: Counter::default(),
            produced_records: Counter::default(),
            produced_bytes: Counter::default(),
            fetched_bytes: Counter::default(),
            zerocopy_bytes: Counter::default(),
            timing: Timing::new(),
            compaction: RefCell::default(),
            throttled: Default::default(),
        }
    }

    fn api(&self, key: i16) -> &ApiMetrics {
        let slot = usize::try_from(key).unwrap_or(usize::MAX).min(API_SLOTS - 1);
        self.apis[slot].get_or_init(|| Box::new(ApiMetrics::new()))
    }

    /// A request's frame has arrived whole.
    pub fn request(&self, api_key: i16, bytes: usize) {
        let api = self.api(api_key);
        api.requests.add(1);
        api.bytes_in.add(bytes as u64);
        api.in_flight.set(api.in_flight.get() + 1);
    }

    /// The request's answer was handed to the socket, `elapsed` after its frame had arrived; 0 bytes for
    /// one that has no answer.
    pub fn response(&self, api_key: i16, bytes: usize, elapsed: Duration) {
        let api = self.api(api_key);
        let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).min(LONGEST_US);
        api.bytes_out.add(bytes as u64);
        api.sum_us.add(us);
        api.in_flight.set(api.in_flight.get() - 1);
        api.latency.borrow_mut().saturating_record(us);
    }

    /// The request's connection went away before its answer could leave.
    pub fn abandoned(&self, api_key: i16) {
        let api = self.api(api_key);
        api.in_flight.set(api.in_flight.get() - 1);
    }

    /// An answer carried this error code, once for each partition or resource that it names. Zero is none.
    pub fn error(&self, api_key: i16, code: i16) {
        if code == 0 {
            return;
        }
        let mut errors = self.api(api_key).errors.borrow_mut();
        match errors.iter_mut().find(|(c, _)| *c == code) {
            Some((_, count)) => *count += 1,
            None => errors.push((code, 1)),
        }
    }

    pub fn protocol_error(&self, error: ProtocolError) {
        self.protocol_errors[error as usize].add(1);
    }

    pub fn connection_opened(&self) {
        self.connections_opened.add(1);
    }

    pub fn connection_closed(&self) {
        self.connections_closed.add(1);
    }

    pub fn connection_refused(&self) {
        self.connections_refused.add(1);
    }

    pub fn produced(&self, records: u64, bytes: usize) {
        self.produced_batches.add(1);
        self.produced_records.add(records);
        self.produced_bytes.add(bytes as u64);
    }

    /// Batches handed to readers.
    pub fn fetched(&self, bytes: usize) {
        self.fetched_bytes.add(bytes as u64);
    }

    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.get()
    }

    /// A client over its quota was told to wait.
    pub fn throttled(&self, kind: Kind, wait: Duration) {
        let throttled = &self.throttled[kind as usize];
        throttled.responses.add(1);
        throttled.ms.add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }

    pub fn sent(&self, sent: Sent) {
        if sent.zerocopy {
            self.zerocopy_bytes.add(sent.bytes as u64);
        }
    }

    /// A copy for the control thread. The journal's figures and gauges are filled in by the caller.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let apis = self.apis.iter().enumerate().filter_map(|(key, api)| {
            let api = api.get()?;
            Some(ApiSnapshot {
                key: key as i16,
                requests: api.requests.get(),
                in_flight: api.in_flight.get(),
                bytes_in: api.bytes_in.get(),
                bytes_out: api.bytes_out.get(),
                sum_us: api.sum_us.get(),
                latency: api.latency.borrow().clone(),
                errors: api.errors.borrow().clone(),
            })
        });
        MetricsSnapshot {
            shard: self.shard,
            apis: apis.collect(),
            connections_opened: self.connections_opened.get(),
            connections_closed: self.connections_closed.get(),
            connections_refused: self.connections_refused.get(),
            protocol_errors: ProtocolError::ALL
                .map(|error| (error.name(), self.protocol_errors[error as usize].get())),
            produced_batches: self.produced_batches.get(),
            produced_records: self.produced_records.get(),
            produced_bytes: self.produced_bytes.get(),
            fetched_bytes: self.fetched_bytes.get(),
            zerocopy_bytes: self.zerocopy_bytes.get(),
            read_from_disk_bytes: 0,
            bypass_bytes: 0,
            compaction: *self.compaction.borrow(),
            throttled: Kind::ALL.map(|kind| {
                let throttled = &self.throttled[kind as usize];
                (kind.key(), throttled.responses.get(), throttled.ms.get())
            }),
            journal: JournalSnapshot::default(),
            gauges: Gauges::default(),
            timing: self.timing.snapshot(),
        }
    }
}

/// One API's figures on one shard.
#[derive(Clone, Debug)]
pub struct ApiSnapshot {
    pub key: i16,
    pub requests: u64,
    pub in_flight: i64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub sum_us: u64,
    pub latency: Histogram<u64>,
    pub errors: Vec<(i16, u64)>,
}

/// What the shard's journal says about itself.
#[derive(Clone, Debug, Default)]
pub struct JournalSnapshot {
    pub commits: u64,
    pub bytes: u64,
    /// Microseconds from submitting a commit to its being durable.
    pub commit_us: Option<Histogram<u64>>,
    pub commit_us_sum: u64,
    /// Bytes of a commit.
    pub commit_bytes: Option<Histogram<u64>>,
    pub files: u64,
    pub backlog_bytes: u64,
    /// The first write error, with its file: this shard acknowledges nothing any more.
    pub failed: Option<String>,
    /// Why nothing becomes durable at the moment, where it is not for good.
    pub waits: Option<String>,
}

/// Sizes at the moment of the snapshot.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub partitions: u64,
    pub tail_bytes: u64,
    pub cache_bytes: u64,
    /// By name.
    pub memory: Vec<(&'static str, BudgetFigures)>,
    /// Segment files open.
    pub open_segments: u64,
    /// Times that a file could not be opened for want of descriptors.
    pub out_of_files: u64,
    pub disk_free_bytes: u64,
    /// Batches refused for want of room on the disk.
    pub disk_full_refusals: u64,
    pub scrub: ScrubStats,
    /// Partitions with records at rest that cannot be read.
    pub damaged: u64,
    /// Partitions that are not served because durable records of theirs are missing.
    pub unrepaired: u64,
    /// Directories of topics that the metadata does not know, at the start.
    pub strays: u64,
    /// Coordinators of groups, then of transactions: loading, serving, failed.
    pub coordinators: [[usize; 3]; 2],
    /// Ends of transactions that not every partition has its marker of.
    pub ends: u64,
    /// For how long coordinators have refused everything, because the controller does not answer this broker (C7).
    pub coordinators_silent: Option<Duration>,
    /// Why the broker has no part in the metadata for now; the control thread says.
    pub metadata_waits: Option<String>,
}

/// One shard's figures, on their way to the control thread.
#[derive(Clone, Debug)]
pub struct MetricsSnapshot {
    pub shard: usize,
    pub apis: Vec<ApiSnapshot>,
    pub connections_opened: u64,
    pub connections_closed: u64,
    pub connections_refused: u64,
    pub protocol_errors: [(&'static str, u64); ProtocolError::ALL.len()],
    pub produced_batches: u64,
    pub produced_records: u64,
    pub produced_bytes: u64,
    pub fetched_bytes: u64,
    /// Of responses, sent from where they were.
    pub zerocopy_bytes: u64,
    /// By the log for readers, as it counts them.
    pub read_from_disk_bytes: u64,
    pub bypass_bytes: u64,
    pub compaction: CompactionSnapshot,
    /// By quota: responses that told a client to wait, and the milliseconds.
    pub throttled: [(&'static str, u64, u64); Kind::ALL.len()],
    pub journal: JournalSnapshot,
    pub gauges: Gauges,
    pub timing: TimingSnapshot,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_send<T: Send>(_: &T) {}

    #[test]
    fn a_snapshot_holds_what_was_counted() {
        let metrics = ShardMetrics::new(3);
        metrics.request(0, 100);
        metrics.request(0, 50);
        metrics.response(0, 20, Duration::from_micros(150));
        metrics.error(0, 3);
        metrics.error(0, 3);
        metrics.error(0, 0);
        metrics.connection_opened();
        metrics.protocol_error(ProtocolError::Malformed);
        metrics.produced(10, 1000);
        let snapshot = metrics.snapshot();
        assert_send(&snapshot);
        let open = snapshot.connections_opened - snapshot.connections_closed;
        assert_eq!((snapshot.shard, snapshot.apis.len(), open), (3, 1, 1));
        let api = &snapshot.apis[0];
        assert_eq!((api.requests, api.in_flight, api.bytes_in, api.bytes_out), (2, 1, 150, 20));
        assert_eq!((api.errors.clone(), api.latency.len(), api.sum_us), (vec![(3, 2)], 1, 150));
        assert!(snapshot.protocol_errors.contains(&("malformed", 1)));
        assert_eq!((snapshot.produced_records, snapshot.produced_batches), (10, 1));
    }

    #[test]
    fn any_key_and_any_latency_can_be_counted() {
        let metrics = ShardMetrics::new(0);
        for key in [i16::MIN, -1, 127, 128, i16::MAX] {
            metrics.request(key, 1);
            metrics.response(key, 1, Duration::MAX);
        }
        assert_eq!(metrics.snapshot().apis[0].requests, 5);
    }
}
