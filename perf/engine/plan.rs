//! What all threads of a run agree on.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use weir::client::Connection;

use crate::Outcome;
use crate::load::batch::{Builder, Origin, Position};
use crate::load::draw::{self, Drawer};
use crate::load::keys::Keys;
use crate::load::payload::Filler;
use crate::net::wait::Clock;
use crate::topics;
use crate::workload::Workload;

/// The topic and who leads its partitions.
#[derive(Clone, Debug)]
pub struct Target {
    pub topic: String,
    pub leaders: Vec<String>,
    /// By partition, an index of `leaders`.
    pub leader_of: Vec<u16>,
}

impl Target {
    pub fn connect(&self, leader: usize) -> Outcome<TcpStream> {
        let options = topics::options();
        Ok(Connection::connect(&self.leaders[leader], &options).map_err(|e| e.to_string())?.into_stream())
    }
}

pub struct Plan {
    pub workload: Workload,
    pub target: Target,
    pub clock: Clock,
    /// Marks this run's records.
    pub run: u32,
    /// The counted window on the run's clock.
    pub window: (u64, u64),
    pub sizes: Arc<[u32]>,
    pub keys: Option<Arc<Keys>>,
    /// Producer ids and epochs, by producer; empty without idempotence.
    pub ids: Vec<(i64, i16)>,
    pub shared: Shared,
}

/// What threads tell each other.
#[derive(Default)]
pub struct Shared {
    /// Something failed: everybody stops.
    pub abort: AtomicBool,
    /// Producers are done; `acknowledged` is final.
    pub produced: AtomicBool,
    pub acknowledged: AtomicU64,
}

impl Shared {
    pub fn aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed)
    }

    pub fn all_produced(&self) -> Option<u64> {
        self.produced.load(Ordering::Acquire).then(|| self.acknowledged.load(Ordering::Relaxed))
    }
}

impl Plan {
    pub fn new(workload: Workload, target: Target, ids: Vec<(i64, i16)>) -> Plan {
        let clock = Clock::start();
        // Threads need a moment to connect.
        let start = 100_000_000 + workload.warm_up.nanos();
        let window = (start, start + workload.duration.nanos());
        let partitions = workload.topic.partitions as u32;
        Plan {
            sizes: draw::sizes(&workload.record.size, 0x5125),
            keys: workload.record.key.as_ref().map(|k| Arc::new(Keys::new(k, partitions))),
            run: (clock.wall_ms as u32).rotate_left(7) ^ std::process::id(),
            window,
            clock,
            workload,
            target,
            ids,
            shared: Shared::default(),
        }
    }

    /// When the first record is meant to be sent.
    pub fn begin(&self) -> u64 {
        self.window.0 - self.workload.warm_up.nanos()
    }

    pub fn drawer(&self, seed: u64) -> Drawer {
        Drawer::new(&self.workload, self.sizes.clone(), self.keys.clone(), seed)
    }

    pub fn builder(&self, seed: u64) -> Builder {
        let longest = self.sizes.iter().max().copied().unwrap_or(0) as usize;
        let filler = Filler::new(self.workload.record.compressibility, longest, seed);
        Builder::new(filler, self.clock.wall_ms, self.workload.producer.codec)
    }

    pub fn origin(&self, producer: u32, position: Position) -> Origin {
        let (producer_id, epoch) = self.ids.get(producer as usize).copied().unwrap_or((-1, -1));
        Origin { run: self.run, producer, position, producer_id, epoch }
    }

    /// The producers, or consumers, that a thread drives.
    pub fn share(count: usize, threads: usize, thread: usize) -> impl Iterator<Item = usize> {
        (thread..count).step_by(threads)
    }
}

/// What the producers of a thread leave behind.
pub struct Produced {
    pub total: crate::engine::meter::Tally,
    pub errors: std::collections::BTreeMap<i16, u64>,
    /// Records meant to be sent within the window.
    pub planned: u64,
    /// How late the generator was to draw each record; no broker can make it so.
    pub lag: hdrhistogram::Histogram<u64>,
    /// Records acknowledged, the warm-up's included.
    pub acknowledged: u64,
    /// Records that waited for the broker when the limit of waiting ones was reached.
    pub overloaded: bool,
    /// CPU seconds of the thread.
    pub cpu: f64,
}
