//! The manifest of a replacement: which segments were, which one is.
//!
//! `magic "WEIRSWAP" | version u32 | crc u32 of the body | body: bincode of Manifest`, little-endian.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::log::LogError;
use crate::log::files::names::{EXTENTS, LOG, file_name};
use crate::log::formats::{Framed, Unsound, read_body, write_body};
use crate::log::segment::SegmentMeta;
use crate::rt;
use crate::rt::fs::unlink;

const FRAMED: Framed = Framed { magic: b"WEIRSWAP", version: 1 };
pub const CLEANED: &str = "cleaned";
pub(in crate::log) const SWAP: &str = "swap";
/// What `write_atomic` leaves of a manifest when it is interrupted.
pub(super) const PARTIAL: &str = "partial";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Neighbours, oldest first; never empty.
    pub old: Vec<SegmentMeta>,
    /// `None`: nothing of them stayed.
    pub new: Option<SegmentMeta>,
}

/// What a manifest is to the list of segments in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// The checkpoint lists the old segments.
    Now,
    /// The checkpoint already lists the new segment, or the log start has passed it.
    Before,
    Misfit,
}

impl Manifest {
    pub(super) fn base(&self) -> i64 {
        self.old[0].base_offset
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        FRAMED.encode(&write_body(self))
    }

    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, LogError> {
        let corrupt = || LogError::corrupt(path, 0, "not a sound manifest of replaced segments");
        let body = match FRAMED.decode(bytes) {
            Ok((body, _)) => body,
            Err(Unsound::Damaged) => return Err(corrupt()),
            Err(Unsound::Version(version)) => {
                return Err(LogError::Newer { path: path.to_owned(), version });
            }
        };
        read_body(body).ok().filter(|manifest: &Self| !manifest.old.is_empty()).ok_or_else(corrupt)
    }

    /// Step 3, any number of times.
    pub(super) fn carry_out(&self, dir: &Path) -> io::Result<()> {
        for old in &self.old {
            unlink(file_name(dir, old.base_offset, EXTENTS))?;
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
            unlink(file_name(dir, old.base_offset, LOG))?;
        }
        rt::fs::sync_dir(dir)
    }

    /// Whether what the manifest promises is there: otherwise it was withdrawn, and the old files are the log.
    pub(super) fn stands(&self, dir: &Path) -> bool {
        let Some(new) = self.new else { return true };
        let length = |extension| rt::fs::len(file_name(dir, self.base(), extension)).ok();
        length(CLEANED).or(length(LOG)).is_none_or(|len| len == u64::from(new.size))
    }

    pub(super) fn end(&self) -> i64 {
        self.old[self.old.len() - 1].next_offset
    }

    /// Brings a checkpoint's list of segments, of a log that starts at `start_offset`, up to date. One that ends before the
    /// old segments did was cut afterwards: it is as it should be.
    pub(super) fn apply(
        &self,
        segments: &mut Vec<SegmentMeta>,
        start_offset: i64,
        end_offset: i64,
    ) -> Applied {
        if end_offset < self.end() {
            return Applied::Before;
        }
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
        assert_eq!(manifest().apply(&mut list, 0, 40), Applied::Now);
        assert_eq!(list, [before, meta(10, 30, 70), after]);
        assert_eq!(manifest().apply(&mut list, 0, 40), Applied::Before, "the second time it is done already");
        assert_eq!(list.len(), 3);
        let all_gone = Manifest { new: None, ..manifest() };
        assert_eq!(
            all_gone.apply(&mut list, 0, 40),
            Applied::Misfit,
            "listed is neither what was nor what is"
        );
        let mut list = vec![before, meta(10, 20, 100), meta(20, 30, 100), after];
        assert_eq!(all_gone.apply(&mut list, 0, 40), Applied::Now);
        assert_eq!(all_gone.apply(&mut list, 0, 40), Applied::Before);
        assert_eq!(list, [before, after]);
        let mut other = vec![meta(10, 20, 101), meta(20, 30, 100)];
        assert_eq!(manifest().apply(&mut other, 0, 40), Applied::Misfit);
    }

    #[test]
    fn what_retention_took_afterwards_is_not_missed() {
        let mut list = vec![meta(30, 40, 9)];
        assert_eq!(manifest().apply(&mut list, 29, 40), Applied::Misfit, "offset 29 has to be somewhere");
        assert_eq!(manifest().apply(&mut list, 30, 40), Applied::Before);
        assert_eq!(manifest().apply(&mut Vec::new(), 30, 40), Applied::Before);
        let mut other = vec![meta(10, 20, 101), meta(20, 30, 100)];
        assert_eq!(manifest().apply(&mut other, 30, 40), Applied::Misfit);
    }

    #[test]
    fn what_a_truncation_took_afterwards_is_not_missed() {
        let mut cut = vec![meta(0, 10, 9), meta(10, 15, 35)];
        assert_eq!(manifest().apply(&mut cut, 0, 15), Applied::Before);
        assert_eq!(cut, [meta(0, 10, 9), meta(10, 15, 35)]);
        assert_eq!(manifest().apply(&mut cut, 0, 30), Applied::Misfit, "the log still reached its end");
    }
}
