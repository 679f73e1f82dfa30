//! Checkpoints of versions 1 to 4, as they were written.

use serde::Deserialize;

use crate::log::formats::PartitionCheckpoint as Log;
use crate::log::resources::damage::DamagedRange;
use crate::log::segment::SegmentMeta;
use crate::log::segment::epochs::EpochList;

use super::{Lsn, Origin, PartitionId};

#[derive(Deserialize)]
pub struct Checkpoint<P> {
    shard: u32,
    shards: u32,
    salt: u32,
    generation: u64,
    floor: Lsn,
    durable: Lsn,
    closed: bool,
    partitions: Vec<P>,
}

/// Version 3.
#[derive(Deserialize)]
pub struct Unstamped {
    shard: u32,
    shards: u32,
    salt: u32,
    generation: u64,
    lasting: u64,
    floor: Lsn,
    durable: Lsn,
    closed: bool,
    partitions: Vec<Unlisted>,
}

/// Version 4.
#[derive(Deserialize)]
pub struct Stamped {
    unstamped: Unstamped,
    origin: Option<Origin>,
    number: u64,
    seen: u64,
}

impl From<Stamped> for super::Checkpoint {
    fn from(old: Stamped) -> Self {
        let Stamped { unstamped, origin, number, seen } = old;
        Self { origin, number, seen, ..unstamped.into() }
    }
}

/// A partition of versions 3 and 4.
#[derive(Deserialize)]
pub struct Unlisted {
    id: PartitionId,
    topic: String,
    log: Log,
    end_offset: i64,
    high_watermark: i64,
    producers: Option<(i64, Vec<u8>)>,
    repair: Option<String>,
    damaged: Vec<DamagedRange>,
}

impl From<Unlisted> for super::PartitionState {
    fn from(old: Unlisted) -> Self {
        let Unlisted { id, topic, log, end_offset, high_watermark, producers, repair, damaged } = old;
        let snapshots = Vec::new();
        Self { id, topic, log, end_offset, high_watermark, producers, repair, damaged, snapshots }
    }
}

impl From<Unstamped> for super::Checkpoint {
    fn from(old: Unstamped) -> Self {
        let Unstamped { shard, shards, salt, generation, lasting, floor, durable, closed, partitions } = old;
        let older = Checkpoint { shard, shards, salt, generation, floor, durable, closed, partitions };
        Self { lasting, ..older.into() }
    }
}

#[derive(Deserialize)]
struct PartitionCheckpoint {
    segment_durable_offset: i64,
    start_offset: i64,
    epochs: EpochList,
    segments: Vec<SegmentMeta>,
    active: bool,
    clean: bool,
}

/// A partition of version 1.
#[derive(Deserialize)]
pub struct Undamaged {
    id: PartitionId,
    topic: String,
    log: PartitionCheckpoint,
    end_offset: i64,
    high_watermark: i64,
    producers: Option<(i64, Vec<u8>)>,
    repair: Option<String>,
}

/// A partition of version 2.
#[derive(Deserialize)]
pub struct PartitionState {
    state: Undamaged,
    damaged: Vec<DamagedRange>,
}

impl<P: Into<super::PartitionState>> From<Checkpoint<P>> for super::Checkpoint {
    fn from(old: Checkpoint<P>) -> Self {
        let Checkpoint { shard, shards, salt, generation, floor, durable, closed, partitions } = old;
        let partitions = partitions.into_iter().map(Into::into).collect();
        let (origin, number, seen) = (None, 0, 0);
        Self {
            shard,
            shards,
            salt,
            generation,
            lasting: 0,
            floor,
            durable,
            closed,
            partitions,
            origin,
            number,
            seen,
        }
    }
}

impl From<PartitionCheckpoint> for Log {
    fn from(old: PartitionCheckpoint) -> Self {
        let PartitionCheckpoint { segment_durable_offset, start_offset, epochs, segments, active, clean } =
            old;
        let extents = Vec::new();
        let was_reset = false;
        Self { segment_durable_offset, start_offset, epochs, segments, active, extents, clean, was_reset }
    }
}

impl From<Undamaged> for super::PartitionState {
    fn from(old: Undamaged) -> Self {
        let Undamaged { id, topic, log, end_offset, high_watermark, producers, repair } = old;
        let (log, damaged, snapshots) = (log.into(), Vec::new(), Vec::new());
        Self { id, topic, log, end_offset, high_watermark, producers, repair, damaged, snapshots }
    }
}

impl From<PartitionState> for super::PartitionState {
    fn from(old: PartitionState) -> Self {
        Self { damaged: old.damaged, ..old.state.into() }
    }
}
