//! Producers' state at a log's end, from its snapshots and the headers of the batches behind one.

use crate::log::formats::Framed;
use crate::log::formats::checkpoint::Snapshot;
use crate::log::segment::with_files;
use crate::log::{LogError, Lsn};
use crate::model::Offset;
use crate::rt;
use crate::wire::batch::{BatchHeader, BatchIter};
use crate::wire::control::{self, EndMarker};

use super::PartitionLog;
use super::snapshots::{decode, encode, snapshot_name, unlink_others};

/// A snapshot is taken after so many offsets, or when a segment has ended.
const OFFSETS_BETWEEN: i64 = 1 << 16;
/// Read at a time for the headers behind a snapshot.
const READ_BYTES: usize = 1 << 20;

/// What producers' state at a log's end is made of.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    /// The state at an earlier offset, and that offset; `None` for no producers at the log's start.
    pub snapshot: Option<(Offset, Vec<u8>)>,
    /// Producers' batches past that, in order, with what those that end a transaction say.
    pub replayed: Vec<(BatchHeader, Option<EndMarker>)>,
}

impl PartitionLog {
    pub(in crate::log) fn snapshots(&self) -> Vec<Snapshot> {
        self.snapshots.all()
    }

    /// At a start: what the checkpoint lists.
    pub(in crate::log) fn list_snapshots(&self, listed: Vec<Snapshot>) {
        self.snapshots.set(listed);
    }

    /// Takes those past `to` off the list.
    pub(in crate::log) fn forget_snapshots(&self, to: i64) -> Vec<i64> {
        self.snapshots.forget_past(to)
    }

    /// Whether producers' state at the log's end should be kept.
    pub(in crate::log) fn wants_snapshot(&self) -> bool {
        let Some(last) = self.segments.last().map(|segment| segment.base_offset()) else { return false };
        let known = self.snapshots.newest().unwrap_or(self.start_offset().0);
        last > known || self.end_offset().0 - known >= OFFSETS_BETWEEN
    }

    /// Keeps producers' state as of `offset` after the entry at `lsn`; whether it is listed now. May fail: an older one
    /// serves then.
    pub(in crate::log) async fn keep_snapshot(&self, offset: i64, lsn: Lsn, state: Option<Vec<u8>>) -> bool {
        let _turn = self.quiet_turn().await;
        if self.is_removed() || self.is_cut_halfway() || self.last_cut() > lsn {
            return false;
        }
        let bytes = encode(state.as_deref());
        let listed = self.snapshots.with(Snapshot { offset, crc: Framed::crc(&bytes) });
        let (dir, kept) = (self.dir.to_path_buf(), listed.clone());
        let written = with_files(&self.resources, move || {
            rt::fs::write_atomic(dir.join(snapshot_name(offset)), &bytes)?;
            unlink_others(&dir, &kept)
        });
        if let Err(e) = written.await {
            log::debug!("{}: {e}; producers' state at {offset} is not kept", self.dir.display());
            return false;
        }
        assert!(self.last_cut() <= lsn, "a log is cut by who has the turn");
        self.list_snapshots(listed);
        true
    }

    /// What producers' state at the log's end is made of, by the newest snapshot that there is.
    pub async fn producers(&self) -> Result<Producers, LogError> {
        for snapshot in self.snapshots().into_iter().rev() {
            let path = self.dir.join(snapshot_name(snapshot.offset));
            let bytes = rt::blocking(move || rt::fs::read_all(path)).await.unwrap_or_default();
            if let Some(state) = decode(&bytes, snapshot.crc) {
                let replayed = self.producers_batches(Offset(snapshot.offset)).await?;
                return Ok(Producers {
                    snapshot: state.map(|state| (Offset(snapshot.offset), state)),
                    replayed,
                });
            }
        }
        Ok(Producers { snapshot: None, replayed: self.producers_batches(self.start_offset()).await? })
    }

    /// The headers of producers' batches from `offset` on. What cannot be read is left out.
    async fn producers_batches(
        &self,
        offset: Offset,
    ) -> Result<Vec<(BatchHeader, Option<EndMarker>)>, LogError> {
        let (mut at, mut found) = (offset.max(self.start_offset()), Vec::new());
        while at < self.end_offset() {
            let batches = match self.read(at, self.end_offset(), READ_BYTES, true).await {
                Ok(batches) => batches,
                Err(LogError::Corrupt { .. }) => {
                    at =
                        self.segment_at(at).map_or(self.end_offset(), |s| Offset(s.next_extent_offset(at.0)));
                    continue;
                }
                Err(e) => return Err(e),
            };
            let began = at;
            for slice in &batches {
                for (header, range) in BatchIter::new(slice).map_while(Result::ok) {
                    if header.has_producer_id() && header.base_offset >= offset.0 {
                        found.push((header, control::decode(&slice[range], &header)));
                    }
                    at = Offset(header.next_offset());
                }
            }
            if at <= began {
                break;
            }
        }
        Ok(found)
    }
}
