//! Producers' state as it was at earlier offsets, for a log that is cut: the state cannot be taken back, but made again from
//! a snapshot below the cut and the headers of the batches behind it.
//!
//! `<offset, 20 digits>.producers` beside the segments: magic "WEIRPROD" | version u32 | crc u32 of the body | body: 1 and the
//! state's bytes, or 0 for no producers. Little-endian.
//!
//! - Only one that the log lists, by offset and checksum, counts; the checkpoint has the list. What a truncation voids goes
//!   off the list at once, its file later.
//! - Disposable: without any, the log is read from its start.

use std::cell::RefCell;
use std::io;
use std::path::Path;

use crate::log::formats::Framed;
use crate::log::segment::with_files;
use crate::log::{LogError, Lsn, PartitionLog};
use crate::rt;
use crate::wire::batch::{BatchHeader, BatchIter};
use crate::wire::control::{self, EndMarker};

pub use crate::log::formats::checkpoint::Snapshot;

const FRAMED: Framed = Framed { magic: b"WEIRPROD", version: 1 };
const SUFFIX: &str = ".producers";
/// As many are kept.
const KEPT: usize = 4;
/// A snapshot is taken after so many offsets, or when a segment has ended.
const OFFSETS_BETWEEN: i64 = 1 << 16;
/// Read at a time for the headers behind a snapshot.
const READ_BYTES: usize = 1 << 20;

/// Oldest first.
#[derive(Default)]
pub(in crate::log) struct Listed(RefCell<Vec<Snapshot>>);

/// What producers' state at a log's end is made of.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    /// The state at an earlier offset, and that offset; `None` for no producers at the log's start.
    pub snapshot: Option<(i64, Vec<u8>)>,
    /// Producers' batches past that, in order, with what those that end a transaction say.
    pub replayed: Vec<(BatchHeader, Option<EndMarker>)>,
}

pub(in crate::log) fn snapshot_name(offset: i64) -> String {
    format!("{offset:020}{SUFFIX}")
}

fn encode(state: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![u8::from(state.is_some())];
    body.extend_from_slice(state.unwrap_or_default());
    FRAMED.encode(&body)
}

/// The state in a file, if it is the one with this checksum.
fn decode(bytes: &[u8], crc: u32) -> Option<Option<Vec<u8>>> {
    let (body, its) = FRAMED.decode(bytes).ok()?;
    let (is_some, state) = body.split_first().filter(|_| its == crc)?;
    Some((*is_some == 1).then(|| state.to_vec()))
}

impl PartitionLog {
    pub(in crate::log) fn snapshots(&self) -> Vec<Snapshot> {
        self.snapshots.0.borrow().clone()
    }

    /// At a start: what the checkpoint lists.
    pub(in crate::log) fn list_snapshots(&self, listed: Vec<Snapshot>) {
        *self.snapshots.0.borrow_mut() = listed;
    }

    /// Takes those past `to` off the list.
    pub(in crate::log) fn forget_snapshots(&self, to: i64) -> Vec<i64> {
        let mut listed = self.snapshots.0.borrow_mut();
        let kept = listed.partition_point(|snapshot| snapshot.offset <= to);
        listed.drain(kept..).map(|snapshot| snapshot.offset).collect()
    }

    /// Whether producers' state at the log's end should be kept.
    pub(in crate::log) fn wants_snapshot(&self) -> bool {
        let state = self.state.borrow();
        let Some(last) = state.segments.back().map(|segment| segment.base_offset()) else { return false };
        let known = self.snapshots.0.borrow().last().map_or(self.start_offset(), |snapshot| snapshot.offset);
        last > known || self.end_offset() - known >= OFFSETS_BETWEEN
    }

    /// Keeps producers' state as of `offset` after the entry at `lsn`; whether it is listed now. May fail: an older one
    /// serves then.
    pub(in crate::log) async fn keep_snapshot(&self, offset: i64, lsn: Lsn, state: Option<Vec<u8>>) -> bool {
        let _turn = self.quiet_turn().await;
        if self.state.borrow().removed || self.is_cut_halfway() || self.last_cut() > lsn {
            return false;
        }
        let bytes = encode(state.as_deref());
        let snapshot = Snapshot { offset, crc: Framed::crc(&bytes) };
        let mut listed = self.snapshots();
        listed.retain(|known| known.offset < offset);
        listed.push(snapshot);
        listed.drain(..listed.len().saturating_sub(KEPT));
        let (dir, kept) = (self.dir.to_path_buf(), listed.clone());
        let written = with_files(&self.cache, move || {
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
                let replayed = self.producers_batches(snapshot.offset).await?;
                return Ok(Producers { snapshot: state.map(|state| (snapshot.offset, state)), replayed });
            }
        }
        Ok(Producers { snapshot: None, replayed: self.producers_batches(self.start_offset()).await? })
    }

    /// The headers of producers' batches from `offset` on. What cannot be read is left out.
    async fn producers_batches(
        &self,
        offset: i64,
    ) -> Result<Vec<(BatchHeader, Option<EndMarker>)>, LogError> {
        let (mut at, mut found) = (offset.max(self.start_offset()), Vec::new());
        while at < self.end_offset() {
            let batches = match self.read(at, self.end_offset(), READ_BYTES, true).await {
                Ok(batches) => batches,
                Err(LogError::Corrupt { .. }) => {
                    at = self.segment_at(at).map_or(self.end_offset(), |s| s.next_extent_offset(at));
                    continue;
                }
                Err(e) => return Err(e),
            };
            let began = at;
            for slice in &batches {
                for (header, range) in BatchIter::new(slice).map_while(Result::ok) {
                    if header.has_producer_id() && header.base_offset >= offset {
                        found.push((header, control::decode(&slice[range], &header)));
                    }
                    at = header.next_offset();
                }
            }
            if at <= began {
                break;
            }
        }
        Ok(found)
    }
}

/// Removes the snapshots that are not listed.
fn unlink_others(dir: &Path, listed: &[Snapshot]) -> io::Result<()> {
    for name in rt::fs::read_dir_names(dir)? {
        let Some(offset) = name.strip_suffix(SUFFIX) else { continue };
        if !listed.iter().any(|snapshot| offset.parse() == Ok(snapshot.offset)) {
            rt::fs::unlink(dir.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_returns_and_every_changed_byte_is_noticed() {
        for state in [None, Some(vec![]), Some(b"state".to_vec())] {
            let bytes = encode(state.as_deref());
            let crc = Framed::crc(&bytes);
            assert_eq!(decode(&bytes, crc), Some(state));
            assert_eq!(decode(&bytes, crc ^ 1), None, "another's");
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 0x10;
                assert_eq!(decode(&bad, crc), None, "byte {at}");
                assert_eq!(decode(&bytes[..at], crc), None, "cut at {at}");
            }
        }
    }
}
