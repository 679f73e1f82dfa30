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
//! Readers that are in an old segment go on in it: its file stays open and its index loaded until the last has left.
//!
//! Manifest: `magic "WEIRSWAP" | version u32 | crc u32 of the body | body: bincode of Manifest`, little-endian.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::log::segment::extents::ExtentIndex;
use crate::log::segment::{EXTENTS, LOG, Segment, SegmentMeta, file_name};
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

    /// Brings a checkpoint's list of segments up to date; false if the manifest fits nothing in it.
    fn apply(&self, segments: &mut Vec<SegmentMeta>) -> bool {
        let first = segments.partition_point(|s| s.base_offset < self.base());
        let range = first..first + self.old.len();
        if segments.get(range.clone()).is_some_and(|listed| listed == self.old) {
            segments.splice(range, self.new);
            return true;
        }
        match self.new {
            Some(new) => segments.get(first) == Some(&new),
            None => {
                let end = self.old[self.old.len() - 1].next_offset;
                segments.get(first).is_none_or(|s| s.base_offset >= end)
            }
        }
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

/// At a start: finishes what an earlier run began. Without a checkpoint (`None`) the files alone are put in order.
/// Returns the groups whose manifests are needed until the next checkpoint.
pub fn settle(
    dir: &Path,
    names: &[String],
    mut segments: Option<&mut Vec<SegmentMeta>>,
) -> Result<Vec<i64>, LogError> {
    let io = |e| LogError::io(dir, e);
    let mut settled = Vec::new();
    for name in manifests(names) {
        let path = dir.join(name);
        let bytes = rt::fs::read_all(&path).map_err(|e| LogError::io(&path, e))?;
        let manifest = Manifest::decode(&path, &bytes)?;
        if !manifest.stands(dir) {
            log::warn!("{}: withdrawn, the segments that it names stay", path.display());
            unlink(&path).map_err(io)?;
            continue;
        }
        if let Some(segments) = segments.as_deref_mut()
            && !manifest.apply(segments)
        {
            return Err(LogError::corrupt(path, 0, "it names segments that no checkpoint lists"));
        }
        manifest.carry_out(dir).map_err(io)?;
        match segments {
            Some(_) => settled.push(manifest.base()),
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
    /// replaced; then nothing has changed.
    pub(super) async fn replace(
        &self,
        old: &[Rc<Segment>],
        new: Option<(SegmentMeta, ExtentIndex)>,
    ) -> Result<bool, LogError> {
        let _turn = self.turn().await;
        let Some(at) = self.place_of(old) else { return Ok(false) };
        let manifest = Manifest {
            old: old.iter().map(|segment| segment.meta()).collect(),
            new: new.as_ref().map(|(meta, _)| *meta),
        };
        let mut frozen = Ok(());
        for segment in old {
            frozen = segment.freeze().await;
            if frozen.is_err() {
                break;
            }
        }
        let committed = match frozen {
            Ok(()) => self.commit(&manifest).await,
            Err(e) => Err(e),
        };
        if let Err(e) = committed {
            old.iter().for_each(|segment| segment.thaw());
            return Err(e);
        }
        self.state.borrow_mut().clean = false;
        let (dir, what) = (self.dir.to_path_buf(), manifest.clone());
        if let Err(e) = rt::blocking(move || what.carry_out(&dir)).await {
            // The manifest stands: the next start finishes this. Until then the old segments are read as they are.
            return Err(self.fail(self.dir.to_path_buf(), e));
        }
        let segment = new.map(|(meta, index)| {
            let segment = Segment::new(self.dir.clone(), self.cache.clone(), meta, true);
            segment.put_index(index);
            segment
        });
        {
            let mut state = self.state.borrow_mut();
            state.segments.drain(at..at + old.len());
            if let Some(segment) = &segment {
                state.segments.insert(at, segment.clone());
            }
        }
        // Only now: a checkpoint made before lists the old segments and needs the manifest.
        self.compaction.swaps.borrow_mut().push(manifest.base());
        if let Some(segment) = segment {
            segment.save_sidecar().await;
            segment.index().await?;
        }
        Ok(true)
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

    /// Makes the manifest durable; withdraws it if that fails.
    async fn commit(&self, manifest: &Manifest) -> Result<(), LogError> {
        let path = file_name(&self.dir, manifest.base(), SWAP);
        let (dir, to, bytes) = (self.dir.to_path_buf(), path.clone(), manifest.encode());
        let written = rt::blocking(move || {
            let written = rt::fs::write_atomic(&to, &bytes);
            let withdrawn = match written {
                Ok(()) => Ok(()),
                Err(_) => unlink(&to.with_extension(PARTIAL))
                    .and_then(|()| unlink(&to))
                    .and_then(|()| rt::fs::sync_dir(&dir)),
            };
            (written, withdrawn)
        });
        match written.await {
            (Ok(()), _) => Ok(()),
            (Err(e), Ok(())) => Err(LogError::io(path, e)),
            // Whether the manifest is there is not known, so neither is which segments are the log at the next start.
            (Err(_), Err(e)) => Err(self.fail(path, e)),
        }
    }

    /// A checkpoint that lists the groups at `bases` as they are now is stored: their manifests go.
    pub async fn forget_swaps(&self, bases: Vec<i64>) {
        if bases.is_empty() {
            return;
        }
        let dir = self.dir.to_path_buf();
        let paths: Vec<PathBuf> = bases.iter().map(|base| file_name(&dir, *base, SWAP)).collect();
        let gone = rt::blocking(move || {
            paths.iter().try_for_each(|path| unlink(path))?;
            match rt::fs::exists(&dir) {
                true => rt::fs::sync_dir(&dir),
                false => Ok(()),
            }
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
        assert!(manifest().apply(&mut list));
        assert_eq!(list, [before, meta(10, 30, 70), after]);
        assert!(manifest().apply(&mut list), "the second time it is done already");
        assert_eq!(list.len(), 3);
        let all_gone = Manifest { new: None, ..manifest() };
        assert!(!all_gone.apply(&mut list), "what is listed is neither what was nor what is");
        let mut list = vec![before, meta(10, 20, 100), meta(20, 30, 100), after];
        assert!(all_gone.apply(&mut list) && all_gone.apply(&mut list));
        assert_eq!(list, [before, after]);
        let mut other = vec![meta(10, 20, 101), meta(20, 30, 100)];
        assert!(!manifest().apply(&mut other));
    }
}
