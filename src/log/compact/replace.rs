//! One segment takes the place of several, at once and whatever happens meanwhile.
//!
//! ```text
//! 1  <base>.cleaned            the new segment, written and synced; nobody knows it yet
//! 2  <base>.swap               the manifest, written atomically: from here on the new segment is the log
//! 3  old sidecars and files unlinked, <base>.cleaned renamed to <base>.log, directory synced
//! 4  the shard's next checkpoint lists the new segment; then the manifest is unlinked, the directory synced
//! ```
//! A start between 2 and 4 finds the manifest, does step 3 (again) and puts the new segment into the checkpoint's list.
//! The manifest names every old segment as the checkpoint lists it: one that fits neither what was nor what is now is
//! not acted on. Until its manifest is gone, a log is not compacted again.
//!
//! What keeps step 3 from its end for a while (no descriptor, no room) leaves the log *half-way*: the list in memory is
//! still of the old segments, which are read through the files held open, and everything else that changes files
//! finishes the replacement first or fails. A checkpoint that is made meanwhile lists the old ones, beside the manifest.
//!
//! Readers that are in an old segment go on in it: its file stays open and its index loaded until the last has left.
//!
//! Manifest: `magic "WEIRSWAP" | version u32 | crc u32 of the body | body: bincode of Manifest`, little-endian.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::log::cache::Evict;
use crate::log::journal::may_pass;
use crate::log::segment::extents::ExtentIndex;
use crate::log::segment::{EXTENTS, LOG, Segment, SegmentMeta, file_name, with_files};
use crate::log::{LogError, PartitionLog};
use crate::rt;

const MAGIC: &[u8; 8] = b"WEIRSWAP";
const VERSION: u32 = 1;
const FRAME: usize = 16;
pub const CLEANED: &str = "cleaned";
const SWAP: &str = "swap";
/// What `write_atomic` leaves of a manifest when it is interrupted.
const PARTIAL: &str = "partial";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Neighbours, oldest first; never empty.
    pub old: Vec<SegmentMeta>,
    /// `None`: nothing of them stayed.
    pub new: Option<SegmentMeta>,
}

/// A replacement that is committed, or may be, and not in place yet.
pub(super) struct Halfway {
    manifest: Manifest,
    old: Vec<Rc<Segment>>,
    index: Option<ExtentIndex>,
}

/// What a manifest is to the list of segments in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    /// The list was of before.
    Now,
    /// The list was of afterwards, or the log starts behind all of it by now.
    Before,
    Misfit,
}

impl Manifest {
    fn base(&self) -> i64 {
        self.old[0].base_offset
    }

    fn encode(&self) -> Vec<u8> {
        let body =
            bincode::serde::encode_to_vec(self, bincode::config::standard()).expect("memory is writable");
        let mut out = Vec::with_capacity(FRAME + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, LogError> {
        let corrupt = || LogError::corrupt(path, 0, "not a sound manifest of replaced segments");
        let (frame, body) = bytes.split_first_chunk::<FRAME>().ok_or_else(corrupt)?;
        let word = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        if &frame[..8] != MAGIC || crc32fast::hash(body) != word(12) {
            return Err(corrupt());
        }
        if word(8) != VERSION {
            return Err(LogError::Newer { path: path.to_owned(), version: word(8) });
        }
        match bincode::serde::decode_from_slice::<Self, _>(body, bincode::config::standard()) {
            Ok((manifest, used)) if used == body.len() && !manifest.old.is_empty() => Ok(manifest),
            _ => Err(corrupt()),
        }
    }

    /// Step 3, any number of times.
    fn carry_out(&self, dir: &Path) -> io::Result<()> {
        for old in &self.old {
            unlink(&file_name(dir, old.base_offset, EXTENTS))?;
        }
        let kept = self.new.map(|new| new.base_offset);
        if kept.is_some() {
            let cleaned = file_name(dir, self.base(), CLEANED);
            match rt::fs::rename(&cleaned, file_name(dir, self.base(), LOG)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        for old in self.old.iter().filter(|old| Some(old.base_offset) != kept) {
            unlink(&file_name(dir, old.base_offset, LOG))?;
        }
        rt::fs::sync_dir(dir)
    }

    /// Whether what the manifest promises is there: otherwise it was withdrawn, and the old files are the log.
    fn stands(&self, dir: &Path) -> bool {
        let Some(new) = self.new else { return true };
        let length = |extension| rt::fs::len(file_name(dir, self.base(), extension)).ok();
        length(CLEANED).or(length(LOG)).is_none_or(|len| len == u64::from(new.size))
    }

    fn end(&self) -> i64 {
        self.old[self.old.len() - 1].next_offset
    }

    /// Brings a checkpoint's list of segments, of a log that starts at `start_offset`, up to date.
    fn apply(&self, segments: &mut Vec<SegmentMeta>, start_offset: i64) -> Applied {
        let first = segments.partition_point(|s| s.base_offset < self.base());
        let range = first..first + self.old.len();
        if segments.get(range.clone()).is_some_and(|listed| listed == self.old) {
            segments.splice(range, self.new);
            return Applied::Now;
        }
        let listed = segments.get(first);
        let done = match self.new {
            Some(new) if listed == Some(&new) => true,
            // Nothing of it is listed: nothing had stayed, or retention has taken what did.
            new => {
                (new.is_none() || self.end() <= start_offset)
                    && listed.is_none_or(|s| s.base_offset >= self.end())
            }
        };
        if done { Applied::Before } else { Applied::Misfit }
    }
}

fn unlink(path: &Path) -> io::Result<()> {
    match rt::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn manifests(names: &[String]) -> impl Iterator<Item = &String> {
    names.iter().filter(|name| name.ends_with(".swap"))
}

/// What a start found of replacements.
#[derive(Debug, Default)]
pub struct Settled {
    /// The groups whose manifests are needed until the next checkpoint.
    pub swaps: Vec<i64>,
    /// The base offsets of segments that the checkpoint lists and that are not the log's any more.
    pub replaced: Vec<i64>,
}

/// At a start: finishes what an earlier run began. Without a checkpoint (`None`) the files alone are put in order;
/// else its segments and start offset are given.
pub fn settle(
    dir: &Path,
    names: &[String],
    mut listed: Option<(&mut Vec<SegmentMeta>, i64)>,
) -> Result<Settled, LogError> {
    let io = |e| LogError::io(dir, e);
    let mut settled = Settled::default();
    for name in manifests(names) {
        let path = dir.join(name);
        let bytes = rt::fs::read_all(&path).map_err(|e| LogError::io(&path, e))?;
        let manifest = Manifest::decode(&path, &bytes)?;
        if !manifest.stands(dir) {
            log::warn!("{}: withdrawn, the segments that it names stay", path.display());
            unlink(&path).map_err(io)?;
            continue;
        }
        if let Some((segments, start_offset)) = &mut listed {
            match manifest.apply(segments, *start_offset) {
                Applied::Now => settled.replaced.extend(manifest.old.iter().map(|old| old.base_offset)),
                Applied::Before => {}
                Applied::Misfit => {
                    return Err(LogError::corrupt(path, 0, "it names segments that no checkpoint lists"));
                }
            }
        }
        manifest.carry_out(dir).map_err(io)?;
        match listed {
            Some(_) => settled.swaps.push(manifest.base()),
            None => unlink(&path).map_err(io)?,
        }
    }
    for name in names {
        let path = dir.join(name);
        let extension = path.extension().and_then(|e| e.to_str());
        if extension == Some(CLEANED) || extension == Some(PARTIAL) {
            unlink(&path).map_err(io)?;
        }
    }
    Ok(settled)
}

impl PartitionLog {
    /// Puts `new`, whose file is written and synced, in the place of `old`. False if they are no longer there to be
    /// replaced; then nothing has changed. After an error nothing has, either, unless the log is half-way.
    pub(super) async fn replace(
        &self,
        old: &[Rc<Segment>],
        new: Option<(SegmentMeta, ExtentIndex)>,
    ) -> Result<bool, LogError> {
        let _turn = self.turn().await;
        if self.place_of(old).is_none() {
            return Ok(false);
        }
        let manifest = Manifest {
            old: old.iter().map(|segment| segment.meta()).collect(),
            new: new.as_ref().map(|(meta, _)| *meta),
        };
        let mut held = Ok(());
        for segment in old {
            held = segment.freeze().await;
            if held.is_err() {
                break;
            }
        }
        if held.is_ok() {
            let half =
                Halfway { manifest: manifest.clone(), old: old.to_vec(), index: new.map(|(_, index)| index) };
            *self.compaction.halfway.borrow_mut() = Some(half);
            held = self.commit(&manifest).await;
        }
        if let Err(e) = held {
            if self.state.borrow().failed.is_none() {
                self.compaction.halfway.take();
                old.iter().for_each(|segment| segment.thaw());
            }
            return Err(e);
        }
        self.state.borrow_mut().clean = false;
        self.finish_replacement().await?;
        Ok(true)
    }

    /// Brings a replacement that is half-way to its end. For who has the turn: nothing else may change files before.
    pub(in crate::log) async fn finish_replacement(&self) -> Result<(), LogError> {
        let Some(manifest) = self.compaction.halfway.borrow().as_ref().map(|half| half.manifest.clone())
        else {
            return Ok(());
        };
        self.check_usable()?;
        let dir = self.dir.to_path_buf();
        let done = with_files(&self.cache, move || {
            // First the manifest, for certain.
            rt::fs::sync_dir(&dir)?;
            manifest.carry_out(&dir)
        });
        let done = done.await;
        #[cfg(test)]
        let done = match self.compaction.hinder.get() {
            0 => done,
            n => {
                self.compaction.hinder.set(n - 1);
                Err(io::ErrorKind::StorageFull.into())
            }
        };
        match done {
            Ok(()) => {}
            Err(e) if may_pass(&e) => return Err(LogError::io(&*self.dir, e)),
            Err(e) => return Err(self.fail(self.dir.to_path_buf(), e)),
        }
        let Some(half) = self.compaction.halfway.take() else { return Ok(()) };
        let segment = half.manifest.new.zip(half.index).map(|(meta, index)| {
            let segment = Segment::new(self.dir.clone(), self.cache.clone(), meta, true);
            segment.put_index(index);
            segment
        });
        {
            let mut state = self.state.borrow_mut();
            let at = state.segments.partition_point(|s| s.base_offset() < half.manifest.base());
            state.segments.drain(at..at + half.old.len());
            if let Some(segment) = &segment {
                state.segments.insert(at, segment.clone());
            }
        }
        // Readers are not given from memory what the log no longer has: what went may have been aborted.
        let freed = self.tail.evict_below(half.manifest.end());
        self.cache.forget(0, freed);
        for segment in &half.old {
            segment.supersede();
            self.compaction.replaced.borrow_mut().push(segment.base_offset());
        }
        // Only now: a checkpoint made before lists the old segments and needs the manifest.
        self.compaction.swaps.borrow_mut().push(half.manifest.base());
        if let Some(segment) = segment {
            segment.save_sidecar().await;
            segment.index().await?;
        }
        Ok(())
    }

    /// As [`finish_replacement`](Self::finish_replacement), for who has not got the turn. Whether the log is whole.
    pub(super) async fn is_whole(&self) -> bool {
        if self.compaction.halfway.borrow().is_none() {
            return true;
        }
        let _turn = self.turn().await;
        let finished = !self.state.borrow().removed && self.finish_replacement().await.is_ok();
        finished && self.compaction.halfway.borrow().is_none()
    }

    /// Where the segments lie in the log, if all of them still do, side by side.
    fn place_of(&self, old: &[Rc<Segment>]) -> Option<usize> {
        let state = self.state.borrow();
        if state.removed || state.failed.is_some() || self.compaction.stopped.get() {
            return None;
        }
        let at = state.segments.iter().position(|s| s.uid() == old[0].uid())?;
        let there = state.segments.range(at..).zip(old).filter(|(a, b)| a.uid() == b.uid()).count();
        (there == old.len()).then_some(at)
    }

    /// Writes the manifest. After an error it is not there, unless the log has failed.
    async fn commit(&self, manifest: &Manifest) -> Result<(), LogError> {
        let path = file_name(&self.dir, manifest.base(), SWAP);
        let (to, bytes) = (path.clone(), manifest.encode());
        let written = with_files(&self.cache, move || match rt::fs::write_atomic(&to, &bytes) {
            // Its name comes last: only the directory's sync is missing, which whoever goes on from here does first.
            Err(e) if may_pass(&e) && rt::fs::exists(&to) => Ok(()),
            Err(e) => {
                let _ = unlink(&to.with_extension(PARTIAL));
                Err(e)
            }
            Ok(()) => Ok(()),
        });
        match written.await {
            Ok(()) => Ok(()),
            // Whether it is durable is not known, so neither is which segments are the log at the next start.
            Err(e) if rt::fs::exists(&path) => Err(self.fail(path, e)),
            Err(e) => Err(LogError::io(path, e)),
        }
    }

    /// A checkpoint that lists the groups at `bases` as they are now is stored: their manifests go.
    pub async fn forget_swaps(&self, bases: Vec<i64>) {
        if bases.is_empty() {
            return;
        }
        let _turn = self.turn().await;
        if self.state.borrow().removed {
            // The directory may be another's by now.
            return;
        }
        let dir = self.dir.to_path_buf();
        let paths: Vec<PathBuf> = bases.iter().map(|base| file_name(&dir, *base, SWAP)).collect();
        let gone = with_files(&self.cache, move || {
            paths.iter().try_for_each(|path| unlink(path))?;
            rt::fs::sync_dir(&dir)
        });
        match gone.await {
            Ok(()) => self.compaction.swaps.borrow_mut().retain(|base| !bases.contains(base)),
            Err(e) => log::warn!("{}: {e}; not compacted again until this works", self.dir.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(base: i64, next: i64, size: u32) -> SegmentMeta {
        SegmentMeta { next_offset: next, size, ..SegmentMeta::new(base, 5) }
    }

    fn manifest() -> Manifest {
        Manifest { old: vec![meta(10, 20, 100), meta(20, 30, 100)], new: Some(meta(10, 30, 70)) }
    }

    #[test]
    fn a_manifest_returns_and_every_changed_byte_is_noticed() {
        let (path, bytes) = (Path::new("10.swap"), manifest().encode());
        assert_eq!(Manifest::decode(path, &bytes).unwrap(), manifest());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(Manifest::decode(path, &bad).is_err(), "byte {at}");
            assert!(Manifest::decode(path, &bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_list_is_brought_up_to_date_once_or_found_so() {
        let (before, after) = (meta(0, 10, 9), meta(30, 40, 9));
        let mut list = vec![before, meta(10, 20, 100), meta(20, 30, 100), after];
        assert_eq!(manifest().apply(&mut list, 0), Applied::Now);
        assert_eq!(list, [before, meta(10, 30, 70), after]);
        assert_eq!(manifest().apply(&mut list, 0), Applied::Before, "the second time it is done already");
        assert_eq!(list.len(), 3);
        let all_gone = Manifest { new: None, ..manifest() };
        assert_eq!(all_gone.apply(&mut list, 0), Applied::Misfit, "listed is neither what was nor what is");
        let mut list = vec![before, meta(10, 20, 100), meta(20, 30, 100), after];
        assert_eq!(all_gone.apply(&mut list, 0), Applied::Now);
        assert_eq!(all_gone.apply(&mut list, 0), Applied::Before);
        assert_eq!(list, [before, after]);
        let mut other = vec![meta(10, 20, 101), meta(20, 30, 100)];
        assert_eq!(manifest().apply(&mut other, 0), Applied::Misfit);
    }

    #[test]
    fn what_retention_took_afterwards_is_not_missed() {
        let mut list = vec![meta(30, 40, 9)];
        assert_eq!(manifest().apply(&mut list, 29), Applied::Misfit, "offset 29 has to be somewhere");
        assert_eq!(manifest().apply(&mut list, 30), Applied::Before);
        assert_eq!(manifest().apply(&mut Vec::new(), 30), Applied::Before);
        let mut other = vec![meta(10, 20, 101), meta(20, 30, 100)];
        assert_eq!(manifest().apply(&mut other, 30), Applied::Misfit);
    }
}
